/** A command's part where a launcher of MPI has started it several times, each process a rank of one group (docs/distributed.md). */
import { launched, secondsToSave } from '#platform';
import { alone, type Failure, failureOf, type Group, RankError } from '../distributed/group.ts';
import { FailureError, InputError, printable } from '../errors.ts';
import { type CommonOptions, notice } from './common.ts';

/** Ctrl-C is to leave time for a step and a save. */
const enoughSeconds = 10;

/**
 * Does `work` as one rank of a group, or as a process that works by itself. Only the first rank prints, and errors of others are its to tell;
 * the others end with the same exit code. `options`: all ranks must have the same; those of ranks that say nothing become quiet.
 */
export async function asRank(options: CommonOptions, work: (group: Group) => Promise<void>): Promise<void> {
  const start = launched();
  if (!start) return await work(alone);
  const isFirst = start.rank === 0;
  const given = { ...options };
  if (!isFirst) Object.assign(options, { quiet: true });
  try {
    const { joinGroup } = await import('../distributed/mpi_group.ts');
    const group = await joinGroup();
    if (!group) return await work(alone);
    try {
      await checkSameOptions(group, given);
      notice(group.description, options);
      const seconds = secondsToSave();
      if (isFirst && seconds !== undefined && seconds < enoughSeconds)
        notice(
          `Ctrl-C at mpirun ends the ranks after ${seconds} s, perhaps before they have saved: start with 'mpirun --mca odls_base_sigkill_timeout 30' (Open MPI 5: --prtemca) for time to save`,
          options,
        );
      await work(group);
      notice(exchanged(group), options);
      await group.leave();
    } catch (error) {
      await group.fail(error, (message) => process.stderr.write(`ufb: ${printable(message)}\n`));
      throw error;
    }
  } catch (error) {
    if (isFirst) throw worded(error);
    process.exitCode = exitCodeOf(failureOf(error));
  }
}

function exchanged({ totals }: Group): string {
  const { exchanges, sentBytes, activeNanoseconds, waitedNanoseconds } = totals;
  const seconds = (nanoseconds: number) => (nanoseconds / 1e9).toFixed(2);
  return `exchanged ${(sentBytes / 1e6).toFixed(1)} MB out of each rank in ${exchanges} exchanges, which took ${seconds(activeNanoseconds)} s; for ${seconds(waitedNanoseconds)} s of that there was nothing to compute`;
}

const exitCodeOf = ({ isInput }: Failure) => (isInput ? 2 : 1);

/** Another rank's error, as one of this process's kinds. */
function worded(error: unknown): unknown {
  if (!(error instanceof RankError)) return error;
  return error.isInput ? new InputError(error.message) : new FailureError(error.message);
}

async function checkSameOptions(group: Group, options: object): Promise<void> {
  await group.checkSame('options', options, (theirs, first) => {
    const [own, expected] = [theirs, first] as Record<string, unknown>[];
    const name = Object.keys({ ...own, ...expected }).find((key) => JSON.stringify(own[key]) !== JSON.stringify(expected[key])) as string;
    const said = (value: unknown) => (value === undefined ? 'nothing' : JSON.stringify(value));
    const option = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    return `was started with other options than rank 0 (--${option}: ${said(own[name])}, there ${said(expected[name])}): start all ranks with the same`;
  });
}

/** What `work` gives, first on the first rank: what that downloads, say, the others on its machine find there. */
export async function firstBeforeOthers<Value>(group: Group, what: string, work: () => Promise<Value>): Promise<Value> {
  const first = await group.fromFirst(what, work);
  return group.isFirst ? first : await work();
}
