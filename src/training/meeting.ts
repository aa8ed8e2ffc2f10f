/** What ranks decide together between two steps: when to stop, and what time it is. */
import { startHash } from '#platform';
import type { Group } from '../distributed/group.ts';
import { FailureError, InputError } from '../errors.ts';
import type { Parameter } from '../nn/parameter.ts';
import { Tokenizer } from '../tokenizer/tokenizer.ts';
import { fingerprintOf, hexadecimal } from './fingerprint.ts';
import type { RunInputs } from './run_folder.ts';

/** What of a session is decided together. */
export interface Shared {
  /** Milliseconds. */
  now(): number;
  signal?: AbortSignal;
  /** For all ranks to call between two steps: until the next time, the first rank's clock stands still, and all see a signal that one of them got. */
  meet?(): Promise<void>;
}

/** The clock and the signal of a session as all ranks of a group see them. */
export function sharedSession(group: Group, { now = () => performance.now(), signal }: Partial<Shared>): Shared {
  if (group.size === 1) return { now, signal };
  const stop = new AbortController();
  let time = 0;
  return {
    now: () => time,
    signal: stop.signal,
    async meet() {
      const all = await group.gather('the time', { milliseconds: now(), stops: signal?.aborted ?? false });
      time = all[0].milliseconds;
      if (all.some(({ stops }) => stops)) stop.abort(signal?.reason ?? new FailureError('stopped before the first step'));
    },
  };
}

/** @throws InputError, on all ranks, if a file that a run reads is another on one of them; if one cannot read it */
export async function checkSameInputs(group: Group, inputs: RunInputs): Promise<void> {
  if (group.size === 1) return;
  const named = Object.entries(inputs).flatMap(([option, paths]) => paths.map((path) => ({ option, path })));
  for (const { option, path } of named) {
    const { bytes, sha256 } = await fingerprintOf(path);
    await group.checkSame(
      `--${option}`,
      { bytes, sha256 },
      () =>
        `${path} (--${option}) is another file there than on rank 0; every machine needs the same: copy it, or use a folder that all see`,
    );
  }
}

/** @throws FailureError, on all ranks, if the values of parameters are others on one of them */
export async function checkSameWeights(group: Group, parameters: readonly Parameter[], when: string): Promise<void> {
  if (group.size === 1) return;
  const hash = startHash();
  for (const { value } of parameters) {
    const { buffer, byteOffset, byteLength } = await value.device.read(value);
    hash.add(new Uint8Array(buffer, byteOffset, byteLength));
  }
  const all = await group.gather('a hash of the weights', hexadecimal(hash.digest()));
  const others = [...all.keys()].filter((rank) => all[rank] !== all[0]);
  if (others.length > 0)
    throw new FailureError(
      `${when}: the weights of rank ${others.join(', ')} are others than those of rank 0: a machine computes otherwise, or its memory is damaged; nothing was saved, go on from the last save with --resume`,
    );
}

/** @throws InputError if there are fewer passes in a step than ranks */
export function checkPasses(group: Group, passes: number): void {
  if (passes < group.size)
    throw new InputError(
      `--accumulate ${passes}: ${group.size} ranks cannot share ${passes} ${passes === 1 ? 'batch' : 'batches'} a step; start as many ranks or fewer, or a new run with --accumulate ${group.size}`,
    );
}

/** The first rank's tokenizer, on all. */
export async function tokenizerTogether(group: Group, open: () => Promise<Tokenizer>): Promise<Tokenizer> {
  if (group.size === 1) return await open();
  let own: Tokenizer | undefined;
  const { json, settings } = await group.fromFirst('a tokenizer', async () => {
    own = await open();
    return { json: own.json, settings: own.settings };
  });
  return own ?? Tokenizer.fromJson(json, "the first rank's tokenizer", settings);
}
