/** What the commands that train share. */
import { resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type * as v from 'valibot';
import { availableThreads, launched, threadsBeside } from '#platform';
import type { Device } from '../backend/device.ts';
import { productPrecisions } from '../backend/prepared_weight.ts';
import { alone, type Group } from '../distributed/group.ts';
import { FailureError, InputError, printable } from '../errors.ts';
import type { RunKind } from '../training/run_folder.ts';
import type { RankOptions } from '../training/trainer.ts';
import {
  addCommonOptions,
  addDeviceOptions,
  type CommonOptions,
  type DeviceOptions,
  dashed,
  notice,
  openDevice,
  parseCount,
  parseNumber,
  parsePositive,
  print,
  printJson,
} from './common.ts';
import type { JsonLog, LogEntry, ProgressBar } from './progress.ts';

/** Options of a run that is kept in a folder, and of the session that works on it. */
export interface RunOptions extends DeviceOptions, CommonOptions {
  out: string;
  resume?: boolean;
  checkpointEvery: number;
  log?: string;
}

/** Adds {@link RunOptions} but --out and --resume, which each command describes, and what is written and multiplied in. `checkpointEvery`: seconds, by default. */
export function addRunOptions(command: Command, checkpointEvery: number): Command {
  const options = command
    .option('--checkpoint-every <seconds>', 'time between two saves', parsePositive, checkpointEvery)
    .addOption(new Option('--dtype <type>', 'of the weights in model.safetensors').choices(['f32', 'bf16']).default('f32'))
    .option('--log <file>', 'add JSON lines about each step to this file');
  return addDeviceOptions(addCommonOptions(addTrainingPrecisionOption(options)));
}

/** How ranks exchange what they have. */
export interface RankCommandOptions {
  wire: 'f32' | 'bf16';
  shardOptimizer?: boolean;
}

/** Adds {@link RankCommandOptions}. */
export function addRankOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--wire <type>', 'what gradients travel in between ranks; bf16 takes half of the bytes, and gives other weights')
        .choices(['f32', 'bf16'])
        .default('f32'),
    )
    .option('--shard-optimizer', 'each rank keeps the moments of its share of the parameters only (ZeRO 1)');
}

/** --accumulate. */
export const accumulateOption = (command: Command): Command =>
  command.option(
    '--accumulate <count>',
    'such batches for each step of the optimizer, which ranks share among them (default: 1, or one for each rank)',
    parseCount,
  );

/** Adds --precision. */
export function addTrainingPrecisionOption(command: Command): Command {
  return command.addOption(
    new Option(
      '--precision <precision>',
      'of products in training (not of the file, which --dtype is about): bf16 takes less time where the processor multiplies it; weights and sums stay in f32',
    )
      .choices(productPrecisions)
      .default('f32'),
  );
}

/** --branch-rate, of what is trained from scratch or converted. */
export function branchRateOption(rate: number): Option {
  return new Option(
    '--branch-rate <factor>',
    'fff: the neurons of one level below one node also step together, at so many times the learning rate, and the step of each by itself is then 0.3 of what it was; 0: each learns by itself alone',
  )
    .argParser(parseNumber)
    .default(rate);
}

/** Logits that a threshold may be told to move in a step. Far more, and they outgrow what a float32 holds: the model could not be read. */
const maxBalance = 100;

/** How fast routing thresholds follow their tokens, of what is trained from scratch or converted. */
export function balanceOption(flags: string, when: string, rate: number): Option {
  return new Option(
    flags,
    `fff: ${when}, how far an inner node's routing threshold moves in a step if all of many tokens go to one side, towards an even split; in logits, and less as the learning rate falls; 0: thresholds stay as they are`,
  )
    .argParser((text) => {
      const value = parseNumber(text);
      if (value > maxBalance) throw new InvalidArgumentError(`expected a number from 0 to ${maxBalance}.`);
      return value;
    })
    .default(rate);
}

/** Training on the reference backend is hundreds of times slower than in WASM: nobody should get it without asking. */
async function openTrainingDevice(options: DeviceOptions & CommonOptions): Promise<Device> {
  const start = launched();
  const device = await openDevice(
    start ? { ...options, threads: options.threads ?? threadsBeside(availableThreads(), start.localSize) } : options,
  );
  if (device.name === 'reference' && options.device === undefined) {
    device.dispose();
    throw new InputError('training needs the native backend or WASM; pass --device reference to train very slowly all the same');
  }
  return device;
}

/** How runs trained that do not say it, being older than the option. */
const beforeOptions = {
  normalizer: 'crammed',
  branchRate: 0,
  balance: 0,
  weightDecay: 0,
  variedShare: 0,
  leafWidth: 1,
  alwaysOn: 0,
  precision: 'f32',
  accumulate: 1,
};

/** @throws InputError if an option that is given again, by `given` one of `now`, is another than the run `was` started with */
export function checkSameOptions(now: object, was: object, given: (name: string) => boolean): void {
  const started: Record<string, unknown> = { ...beforeOptions, ...was };
  for (const [name, value] of Object.entries(now)) {
    if (!given(name) || JSON.stringify(value) === JSON.stringify(started[name])) continue;
    const differs =
      value === false
        ? `--no-${dashed(name)}: the run was started without it`
        : started[name] === undefined
          ? `--${dashed(name)}: the run was started without it`
          : `--${dashed(name)} ${value} differs from the run's ${started[name]}`;
    throw new InputError(`${differs}; leave it out, or start a new run in another folder`);
  }
}

/** What a run that is to be resumed was started with. */
export interface ResumedRun<Options> {
  options: Options;
  /** The log that it had. */
  log?: string;
}

/**
 * What the run in `out` was started with. What is given again must be the same (see {@link checkSameOptions}), but for `places`: options that name
 * files, which may have been moved; that their content is the same is found when the run goes on. `schema`: of its options.
 */
export async function resumedRun<Options extends object>(
  kind: RunKind,
  out: string,
  now: Options,
  given: (name: string) => boolean,
  {
    schema,
    places,
    extend = (stored) => stored,
  }: {
    schema: v.GenericSchema<unknown, Options>;
    places: readonly (keyof Options & string)[];
    /** What may be other than it was, changed. */
    extend?(stored: Options): Options;
  },
): Promise<ResumedRun<Options>> {
  if (given('revision') && !given('model')) throw new InputError(`--revision and --resume are both given: the run in ${out} has its model`);
  const { readRunRecord, sortedAsNoted } = await import('../training/run_folder.ts');
  const { options: stored, book } = await readRunRecord(out, kind, schema);
  const options = { ...extend(stored as Options) };
  for (const name of places) {
    if (!given(name)) continue;
    const [was, is] = [stored as Options, now].map((each) => each[name]);
    if (Array.isArray(was) && Array.isArray(is) && was.length !== is.length)
      throw new InputError(`--${dashed(name)}: ${is.length} files, but the run was started with ${was.length}: name as many`);
    options[name] = (Array.isArray(is) ? await sortedAsNoted(is, book, dashed(name)) : is) as Options[typeof name];
  }
  checkSameOptions(now, options, given);
  return { options, log: book?.log };
}

/** Notes in the log that a run starts, or goes on; see {@link JsonLog.start}. */
export async function startLog(
  log: JsonLog,
  run: { id: string; step: number },
  isRepeated: (entry: LogEntry) => boolean,
  options: CommonOptions & { resume?: boolean },
): Promise<void> {
  const isWhole = await log.start(run, isRepeated);
  if (!isWhole && options.resume)
    notice(`the log has lines of another run behind this one's: the steps from ${run.step + 1} on may be in it twice`, options);
}

/** Of a step's line, and others that name the step that they came after. */
export const isAfter = (step: number) => (entry: LogEntry) => typeof entry.step === 'number' && entry.step > step;

/** What the sessions of all runs are given. */
interface Session {
  device: Device;
  resume: boolean;
  /** Aborted by Ctrl-C. */
  signal: AbortSignal;
  /** The log's path. */
  log?: string;
  /** Those that work on the run together, if it is not this process alone. */
  ranks?: RankOptions;
  onStart(started: { id: string; step: number }): Promise<void>;
  onNotice(line: string): void;
}

/**
 * Works on a run: `work` is given what its session is, the log and a progress bar of the form `bar`. `logged` is the log that the run had;
 * `read`: files that the log must not be.
 */
export async function inSession<Result>(
  options: Omit<RunOptions, 'out' | 'checkpointEvery'> & { out?: string } & Partial<RankCommandOptions>,
  { logged, read, bar: form, group = alone }: { logged?: string; read: readonly (string | undefined)[]; bar: string; group?: Group },
  work: (session: Session, log: JsonLog, bar: ProgressBar) => Promise<Result>,
): Promise<Result> {
  const { JsonLog, ProgressBar } = await import('./progress.ts');
  using device = await openTrainingDevice(options);
  await group.computeOn(device);
  using stop = stopOnInterrupt(options);
  const path = group.isFirst ? (options.log ?? logged) : undefined;
  const log = await JsonLog.open(path, { read, folder: options.out });
  const bar = new ProgressBar(options, form);
  const session: Session = {
    device,
    resume: options.resume ?? false,
    signal: stop.signal,
    log: path && resolve(path),
    ranks: group.size === 1 ? undefined : { group, bf16: options.wire === 'bf16', shardOptimizer: options.shardOptimizer },
    onStart: (started) => startLog(log, started, isAfter(started.step), options),
    onNotice: (line) => notice(line, options),
  };
  try {
    return await work(session, log, bar);
  } finally {
    bar.stop();
    await log.close();
  }
}

/** Prints how a run ended, once for all ranks, and sets the exit code. */
export async function printResult<Result extends { finished: boolean; diverged?: boolean }>(
  result: Result,
  { json, out }: RunOptions,
  summary: (result: Result, out: string) => Promise<string>,
  { isFirst }: Group,
): Promise<void> {
  failUnlessFinished(result);
  if (!isFirst) return;
  if (json) printJson({ ...result, out });
  else print(await summary(result, printable(out)));
}

/** A run that was stopped, or that diverged, is no success to whoever waits for its end: `ufb pretrain ... && ufb eval ...`. */
export function failUnlessFinished({ finished, diverged = false }: { finished: boolean; diverged?: boolean }): void {
  if (!finished || diverged) process.exitCode = 1;
}

/** How a run ended, in a word. */
export function endOf({ finished, diverged }: { finished: boolean; diverged: boolean }): string {
  if (diverged) return 'diverged';
  return finished ? 'done' : 'stopped (go on with --resume)';
}

/** How often a corpus was read: 0.35 times, once, 12 times. */
export function timesOf(passes: number): string {
  const times = Number(passes.toFixed(passes < 10 ? 2 : 0));
  return times === 1 ? 'once' : `${times} times`;
}

const stopSignals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** A signal that Ctrl-C sets (or SIGTERM, or a terminal that is closed); a second one ends the process. Dispose it when the work is done. */
function stopOnInterrupt(options: CommonOptions): { signal: AbortSignal } & Disposable {
  const stop = new AbortController();
  const onSignal = () => {
    notice('stopping after this step; once more to stop at once', options);
    // The reason is told where there is no step yet.
    stop.abort(new FailureError('stopped before the first step'));
  };
  for (const name of stopSignals) process.once(name, onSignal);
  return {
    signal: stop.signal,
    [Symbol.dispose]: () => {
      for (const name of stopSignals) process.off(name, onSignal);
    },
  };
}
