/** The loop that writes: a prompt goes through the model at once, then one token at a time, over what the session's cache keeps. */
import type { CausalLanguageModel } from '../models/causal_language_model.ts';
import { KeyValueCache } from '../models/key_value_cache.ts';
import type { Session } from '../models/session.ts';
import type { Context } from '../nn/parameter.ts';

/** A text that is being written. */
export interface Writing {
  /** At least one token. */
  readonly prompt: readonly number[];
  /** Most tokens that are written, at least 1; with the prompt at most the model's positions. */
  readonly maxNewTokens: number;
  /** The next token, chosen of logits [vocabulary], which it may overwrite; undefined: the text has ended, with its last token or before. */
  next(logits: Float32Array): number | undefined;
}

/** Tokens of prompts that one pass takes: what is asked between two passes waits no longer than for so many. */
const tokensPerPass = 512;

/** Bytes of keys and values that are kept at once; texts that take more are written in turns, one at least. */
const cacheBytes = 2 ** 29;

/**
 * Writes texts side by side, each from a prompt of its own length. `groups`: texts that have one prompt, which is then read once. Yields after each token
 * of each; a caller that stops in between stops the work.
 * @throws the signal's reason before the next pass after it aborted; what {@link Writing.next} throws
 */
export async function* write(
  model: CausalLanguageModel,
  session: Session,
  groups: readonly (readonly Writing[])[],
  signal?: AbortSignal,
): AsyncGenerator<void> {
  for (const some of inTurns(model, groups)) yield* writeTogether(model, session, some, signal);
}

/** Groups of which the cache holds all at once. */
function inTurns({ config }: CausalLanguageModel, groups: readonly (readonly Writing[])[]): (readonly Writing[])[][] {
  const turns: (readonly Writing[])[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const group of groups) {
    const own = group.length * KeyValueCache.bytes(config, { batch: 1, maxLength: longest(group) });
    if (bytes + own > cacheBytes) {
      turns.push([]);
      bytes = 0;
    }
    turns[turns.length - 1].push(group);
    bytes += own;
  }
  return turns;
}

const longest = (group: readonly Writing[]) => Math.max(...group.map(({ prompt, maxNewTokens }) => prompt.length + maxNewTokens));

async function* writeTogether(
  model: CausalLanguageModel,
  session: Session,
  groups: readonly (readonly Writing[])[],
  signal: AbortSignal | undefined,
): AsyncGenerator<void> {
  const texts = groups.flat();
  const cache = session.createCache(model, { batch: texts.length, maxLength: longest(texts) });
  try {
    cache.select(groups.map((_, row) => row));
    const prompts = groups.map(([{ prompt }]) => prompt);
    const firstLogits = await readPrompts(model, session, prompts, cache, signal);
    cache.select(groups.flatMap((group, row) => group.map(() => row)));
    let rows: readonly Writing[] = texts;
    let logits: Float32Array[] = groups.flatMap((group, row) =>
      group.map((_, i) => (i === 0 ? firstLogits[row] : firstLogits[row].slice())),
    );
    while (rows.length > 0) {
      const tokens: number[] = [];
      const kept: number[] = [];
      for (const [index, row] of rows.entries()) {
        const token = row.next(logits[index]);
        if (token === undefined) continue;
        tokens.push(token);
        kept.push(index);
      }
      yield;
      if (kept.length === 0) break;
      signal?.throwIfAborted();
      if (kept.length < rows.length) cache.select(kept);
      rows = kept.map((index) => rows[index]);
      logits = await logitsOf(
        session,
        (context) =>
          model.step(
            context,
            tokens.map((token) => [token]),
            cache,
          ),
        rows.length,
      );
    }
  } finally {
    cache.dispose();
  }
}

/** Reads prompts into the cache, some tokens of each at a time; returns the logits at the end of each, [vocabulary]. */
async function readPrompts(
  model: CausalLanguageModel,
  session: Session,
  prompts: readonly (readonly number[])[],
  cache: KeyValueCache,
  signal: AbortSignal | undefined,
): Promise<Float32Array[]> {
  const logits: Float32Array[] = new Array(prompts.length);
  const most = Math.max(...prompts.map(({ length }) => length));
  const part = Math.max(1, Math.floor(tokensPerPass / prompts.length));
  for (let first = 0; first < most; first += part) {
    signal?.throwIfAborted();
    const parts = prompts.map((prompt) => prompt.slice(first, first + part));
    const present = [...prompts.keys()].filter((row) => parts[row].length > 0);
    const ends = (row: number) => first + parts[row].length === prompts[row].length;
    if (present.some(ends)) {
      const read = await logitsOf(session, (context) => model.step(context, parts, cache), present.length);
      for (const [index, row] of present.entries()) if (ends(row)) logits[row] = read[index];
    } else
      await session.pass(async (context) => {
        model.fill(context, parts, cache);
        await context.device.finish();
      });
  }
  return logits;
}

/** Logits [rows, vocabulary] as a row each. */
async function logitsOf(
  session: Session,
  step: (context: Context) => ReturnType<CausalLanguageModel['step']>,
  rows: number,
): Promise<Float32Array[]> {
  const all = await session.pass((context) => context.device.read(step(context)));
  const vocabulary = all.length / rows;
  return Array.from({ length: rows }, (_, row) => all.subarray(row * vocabulary, (row + 1) * vocabulary));
}
