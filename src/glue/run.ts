/** A run over GLUE: a model is fine-tuned on each task with each seed, always from the same start. */

import { joinPath, removeFile } from '#platform';
import type { Device } from '../backend/device.ts';
import { FailureError, InputError } from '../errors.ts';
import { readJson } from '../io/files.ts';
import { checkVocabulary, loadSequenceClassifier, readTrainedHead } from '../models/checkpoint.ts';
import { parseConfig } from '../models/config_json.ts';
import { Session } from '../models/session.ts';
import type { EncodedText } from '../models/text_batches.ts';
import { hashText } from '../nn/random.ts';
import { LossNotice } from '../tokenizer/character_loss.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { loadTokenizer } from '../tokenizer/tokenizer_config.ts';
import { encodeTexts, logitsOf, predictionsOf } from '../training/classifier_scores.ts';
import { type FineTuningStep, fineTune } from '../training/fine_tune.ts';
import { fineTuningRecipe } from '../training/fine_tune_recipe.ts';
import { FineTuningState } from '../training/fine_tune_state.ts';
import { inRunFolder } from '../training/run.ts';
import type { RunFolder } from '../training/run_folder.ts';
import { verdictOnFineTuning } from '../training/verdict.ts';
import { type GlueData, readGlueTask } from './read.ts';
import {
  checkDevSets,
  type GlueOptions,
  type GlueResults,
  type GlueTaskResult,
  hasGlueResults,
  readGlueResults,
  type SeedResult,
  type StoredResults,
  writeGlueResults,
} from './results.ts';
import { writePredictions } from './submission.ts';
import { type GlueTask, glueMetrics, glueTasks } from './tasks.ts';

export interface GlueSession {
  device: Device;
  /** Keeps results and predictions, and what a resumed run needs; absent: nothing is written. */
  out?: string;
  /** Go on with the run in `out`; tasks and seeds that it has are not run again. */
  resume: boolean;
  /** Results of other models that these will be compared with: their dev sets must be the same, and a task of the mean in all. */
  against?: readonly StoredResults[];
  /** Seconds between saves of the training at hand. */
  checkpointEvery: number;
  signal?: AbortSignal;
  /** The log that the caller writes: noted, so that who resumes the run can go on with it. */
  log?: string;
  /** Before the first step: `id` tells the run from others; `step` is the last one saved of the training that is the first to go on. */
  onStart?(run: { id: string; task: string; seed: number; step: number }): Promise<void> | void;
  onStep?(step: GlueStep): void;
  /** After each task and seed. */
  onSeed?(result: Pick<SeedResult, 'seed' | 'scores' | 'seconds' | 'tokensPerSecond'> & { task: string }): void;
  onNotice?(line: string): void;
}

export interface GlueStep extends Omit<FineTuningStep, 'progress' | 'seconds'> {
  task: string;
  seed: number;
  /** Of all tasks and seeds, by the characters of their training sets. */
  progress: number;
  /** Spent on training for that progress, over all sessions. */
  seconds: number;
}

/** A task with the seeds that it is still to be trained with. */
interface Work {
  task: GlueTask;
  seeds: number[];
  /** Epochs x characters of the training set, for each seed. */
  size: number;
}

/**
 * Fine-tunes and scores a model on GLUE by crammedBERT's recipe (see `fineTuningRecipe`), the same for every task; dropout is what the
 * model's config.json says, 0.1 unless it says otherwise. Each task and seed starts from the model as it is in its folder, with a new
 * head. Scores are those of the last epoch, as crammedBERT's: choosing the best one by the dev set's scores would flatter. The same
 * options, files and backend give the same results, stopped in between or not.
 *
 * @returns what was found; `finished` is false if the signal stopped it
 * @throws InputError for unusable files and options, before anything is trained; only that a training set is not what the run was
 *   started with is found when its task's turn comes
 * @throws FailureError naming task and seed if a loss or what the trained model says is not finite
 */
export async function runGlue(options: GlueOptions, session: GlueSession): Promise<GlueResults> {
  const { out, resume, log, onNotice } = session;
  if (out === undefined) return run(options, session);
  const inputs = { model: [options.model] };
  return inRunFolder('glue', { out, resume, log, onNotice }, inputs, ({ folder }) => run(options, session, folder));
}

async function run(options: GlueOptions, session: GlueSession, folder?: RunFolder): Promise<GlueResults> {
  const { out } = session;
  const known = out !== undefined && session.resume && (await hasGlueResults(out)) ? await readGlueResults(out) : { tasks: {} };
  const results: GlueResults = { ...known, options, finished: false };
  const work = await survey(options, results, session);
  const start = work.length > 0 ? await openStart(options.model, session) : undefined;
  await folder?.record(options);
  results.finished = !start || (await train(work, start, results, session, folder));
  if (out !== undefined) {
    await writeGlueResults(out, results);
    await writePredictions(out, results);
  }
  return results;
}

/** What all tasks start from. */
interface Start {
  folder: string;
  tokenizer: Tokenizer;
  /** Tokens of a text, at most. */
  length: number;
}

async function openStart(folder: string, { onNotice }: GlueSession): Promise<Start> {
  const path = joinPath(folder, 'config.json');
  const config = parseConfig(await readJson(path), path);
  const tokenizer = await loadTokenizer(folder, onNotice);
  checkVocabulary(folder, tokenizer, config);
  const head = await readTrainedHead(folder);
  if (head)
    throw new InputError(
      `${folder}: its weights hold '${head.tensor}', a head that was trained already; name the model from before it was fine-tuned`,
    );
  return { folder, tokenizer, length: Math.min(fineTuningRecipe.length, config.maxPositionEmbeddings) };
}

/** Reads everything once, so that what is wrong with a file or a comparison is said now and not after days of training. */
async function survey(options: GlueOptions, results: GlueResults, { out, against = [], onNotice }: GlueSession): Promise<Work[]> {
  checkCommonTasks(options, results, against);
  const work: Work[] = [];
  const stored = out === undefined ? against : [{ folder: out, results }, ...against];
  for (const task of glueTasks) {
    const known = results.tasks[task.name];
    if (known) for (const other of against) checkDevSets(task, known.labels, other);
    if (!options.tasks.includes(task.name)) continue;
    const done = known?.runs.map(({ seed }) => seed) ?? [];
    const count = options.taskSeeds[task.name] ?? options.seeds;
    const seeds = Array.from({ length: count }, (_, seed) => seed).filter((seed) => !done.includes(seed));
    if (seeds.length === 0) continue;
    const data = await readGlueTask(task, options.data);
    for (const { notices } of [data.train, ...Object.values(data.sets).map(({ dev }) => dev)]) for (const line of notices) onNotice?.(line);
    for (const other of stored) checkDevSets(task, devLabels(data), other);
    const characters = data.train.texts.reduce((sum, { text, pair = '' }) => sum + text.length + pair.length, 0);
    work.push({ task, seeds, size: options.epochs * characters });
  }
  return work;
}

/** @throws InputError if no task that counts in the mean will have results here and has some in all of `against` */
function checkCommonTasks(options: GlueOptions, results: GlueResults, against: readonly StoredResults[]): void {
  const counted = glueTasks.filter(({ inMean }) => inMean).map(({ name }) => name);
  let common = counted.filter((name) => options.tasks.includes(name) || results.tasks[name]?.runs.length);
  for (const { folder, results: others } of against) {
    const theirs = counted.filter((name) => others.tasks[name]?.runs.length);
    const [had, expected] = [theirs, common].map((names) => names.join(', ') || 'none');
    common = common.filter((name) => theirs.includes(name));
    if (common.length === 0)
      throw new InputError(
        `${folder}: of the tasks that count in the mean it has ${had}, what it is compared with ${expected}, expected one in common; choose others with --tasks, or do not compare`,
      );
  }
}

const devLabels = ({ sets }: GlueData): GlueTaskResult['labels'] =>
  Object.fromEntries(Object.entries(sets).map(([name, { dev }]) => [name, dev.labels]));

/** Adds to `results`; false if the signal stopped it. */
async function train(
  work: readonly Work[],
  start: Start,
  results: GlueResults,
  session: GlueSession,
  folder?: RunFolder,
): Promise<boolean> {
  const { out } = session;
  let started = false;
  const doneRuns = ({ task }: Work) => results.tasks[task.name]?.runs ?? [];
  // Seconds and progress count what earlier sessions did on these tasks.
  let spent = work.flatMap(doneRuns).reduce((sum, { seconds }) => sum + seconds, 0);
  let done = work.reduce((sum, part) => sum + doneRuns(part).length * part.size, 0);
  const total = work.reduce((sum, { seeds, size }) => sum + seeds.length * size, done);
  for (const { task, seeds, size } of work) {
    const data = await readGlueTask(task, results.options.data);
    const sets = await encodeTask(task, data, start, session);
    results.tasks[task.name] ??= { training: data.train.texts.length, labels: devLabels(data), runs: [] };
    const result = results.tasks[task.name];
    result.fingerprint ??= sets.fingerprint;
    if (result.fingerprint !== sets.fingerprint) throw new InputError(changedMessage(task, out));
    const { runs } = result;
    for (const seed of seeds) {
      const result = await trainSeed(task, sets, seed, start, results.options, {
        ...session,
        async onStart(step) {
          if (!started) await session.onStart?.({ id: folder?.id ?? '', task: task.name, seed, step });
          started = true;
        },
        onStep: (step) =>
          session.onStep?.({
            ...step,
            task: task.name,
            seed,
            progress: (done + step.progress * size) / total,
            seconds: spent + step.seconds,
          }),
      });
      if (!result) return false;
      runs.push(result);
      runs.sort((a, b) => a.seed - b.seed);
      if (out !== undefined) {
        await writeGlueResults(out, results);
        await removeFile(stateFolder(out, task, seed));
      }
      done += size;
      spent += result.seconds;
      const { scores, seconds, tokensPerSecond } = result;
      session.onSeed?.({ task: task.name, seed, scores, seconds, tokensPerSecond });
    }
  }
  return true;
}

interface EncodedTask {
  training: (EncodedText & { label: number })[];
  /** Tells one training set from another. */
  fingerprint: number;
  dev: Record<string, { encoded: EncodedText[]; labels: number[] }>;
  test: Record<string, EncodedText[]>;
}

async function encodeTask(
  task: GlueTask,
  { train, sets, diagnostic }: GlueData,
  { tokenizer, length }: Start,
  { out, onNotice }: GlueSession,
): Promise<EncodedTask> {
  const losses = new LossNotice((line) => onNotice?.(`${task.name}: ${line}`));
  const training = await encodeTexts(train.texts, tokenizer, length, { losses });
  if (training.cut > 0)
    onNotice?.(
      `${task.name}: ${training.cut} of ${train.texts.length} training examples have more than ${length} tokens: the end was left out`,
    );
  const result: EncodedTask = {
    training: training.encoded.map((text, index) => ({ ...text, label: train.labels[index] })),
    fingerprint: training.encoded.reduce((hash, { ids }, index) => hashText(`${hash} ${train.labels[index]} ${ids}`), 0),
    dev: {},
    test: {},
  };
  for (const [name, { dev }] of Object.entries(sets))
    result.dev[name] = { encoded: (await encodeTexts(dev.texts, tokenizer, length, { losses })).encoded, labels: dev.labels };
  // Predictions of test sets go to files and nowhere else.
  const tests = Object.entries(sets).map(([name, { test }]) => [name, test] as const);
  if (task.diagnostic) tests.push([task.diagnostic.name, diagnostic]);
  for (const [name, test] of out === undefined ? [] : tests)
    if (test) result.test[name] = (await encodeTexts(test.texts, tokenizer, length)).encoded;
  return result;
}

const changedMessage = (task: GlueTask, out: string | undefined) =>
  `${task.name}/train.tsv is not what the run in ${out} was started with; put it back, or start another run`;

/** Where a training that was stopped is kept. */
const stateFolder = (out: string, task: GlueTask, seed: number) => joinPath(out, 'run', `${task.name}-${seed}`);

/** One task with one seed; undefined if the signal stopped it. */
async function trainSeed(
  task: GlueTask,
  { training, fingerprint, dev, test }: EncodedTask,
  seed: number,
  start: Start,
  { epochs, precision }: GlueOptions,
  session: Omit<GlueSession, 'onStart' | 'onStep'> & { onStart(step: number): Promise<void>; onStep(step: FineTuningStep): void },
): Promise<SeedResult | undefined> {
  const { device, out, signal, checkpointEvery } = session;
  using model = await loadSequenceClassifier(start.folder, device, { fresh: { labels: Math.max(1, task.classes.length), seed } });
  const state =
    out === undefined
      ? undefined
      : new FineTuningState(stateFolder(out, task, seed), {
          fingerprint,
          changed: changedMessage(task, out),
        });
  const nameTask = (error: unknown): never => {
    const Kind = [InputError, FailureError].find((kind) => error instanceof kind);
    throw Kind ? new Kind(`${task.name}, seed ${seed}: ${(error as Error).message}`, { cause: error }) : error;
  };
  const options = { ...fineTuningRecipe, epochs, precision, length: start.length, seed };
  const progress = await fineTune(model, { training }, options, {
    device,
    signal,
    advice: 'the recipe is fixed and --resume comes to the same step: leave the task out with --tasks',
    onStep: session.onStep,
    async restore(optimizer) {
      const progress = (await state?.exists()) ? await state?.restore(optimizer) : undefined;
      await session.onStart(progress?.step ?? 0);
      return progress;
    },
    checkpointEvery,
    async save(progress, optimizer, occasion) {
      // A stop while the sets are predicted then costs no training; what took less than the time between saves can be done again.
      if (occasion === 'measured' || (occasion === 'end' && progress.seconds < checkpointEvery)) return;
      await state?.save(progress, optimizer);
    },
  }).catch(nameTask);
  if (!progress.finished) return undefined;
  const { notice } = verdictOnFineTuning(
    progress.epochs.map(({ loss }) => loss),
    model.labels,
  );
  if (notice) session.onNotice?.(`${task.name}, seed ${seed}: ${notice}`);

  using passes = new Session(device);
  const inference: Parameters<typeof logitsOf>[0] = { inference: (work) => passes.pass(work) };
  const predictions = async (encoded: readonly EncodedText[]) =>
    predictionsOf(await logitsOf(inference, model, encoded, { signal }), model.labels);
  const result: SeedResult = {
    seed,
    scores: {},
    seconds: progress.seconds,
    tokensPerSecond: progress.tokens / progress.seconds,
    predictions: {},
    test: {},
  };
  try {
    for (const [name, { encoded, labels }] of Object.entries(dev)) {
      result.predictions[name] = await predictions(encoded);
      result.scores[name] = glueMetrics[task.metric](result.predictions[name], labels);
    }
    for (const [name, encoded] of Object.entries(test)) result.test[name] = await predictions(encoded);
  } catch (error) {
    if (signal?.aborted && error === signal.reason) return undefined;
    return nameTask(error);
  }
  return result;
}
