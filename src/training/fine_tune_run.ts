/** Fine-tuning on files of the user's own: the run as a whole. */

import type { Device } from '../backend/device.ts';
import { InputError } from '../errors.ts';
import { checkVocabulary, loadSequenceClassifier, readTrainedHead, saveCheckpoint } from '../models/checkpoint.ts';
import type { FeedforwardConfig } from '../models/config.ts';
import type { EncodedText } from '../models/text_batches.ts';
import { hashText } from '../nn/random.ts';
import { LossNotice } from '../tokenizer/character_loss.ts';
import { saveTokenizer } from '../tokenizer/save_tokenizer.ts';
import { loadTokenizer } from '../tokenizer/tokenizer_config.ts';
import { type ClassificationReport, classificationReport } from './classification_report.ts';
import { encodeTexts } from './classifier_scores.ts';
import {
  type EpochReport,
  type FineTuningOptions,
  type FineTuningProgress,
  type FineTuningStep,
  fineTune,
  type LabeledText,
} from './fine_tune.ts';
import { fineTuningRecipe } from './fine_tune_recipe.ts';
import { FineTuningState } from './fine_tune_state.ts';
import { type LabeledFile, readLabeledFile } from './labeled_files.ts';
import { checkPasses, checkSameWeights, tokenizerTogether } from './meeting.ts';
import { metricNames } from './metrics.ts';
import { CounterRandom, randomStream, shuffled } from './random.ts';
import { inRunFolder, type RunSession } from './run.ts';
import { verdictOnFineTuning } from './verdict.ts';

/** What a run is: recorded in its folder and the same in every session. */
export interface FineTuningRunOptions extends FineTuningOptions {
  /** Folder of the model to start from: a masked language model, an encoder or a classifier of the same classes. */
  model: string;
  /** Labeled texts; see `readLabeledFile`. */
  train: string;
  /** Labeled texts for the scores; absent: a tenth of `train`, of each class alike, is kept for that. */
  validation?: string;
  /** Of model.safetensors. */
  dtype: 'F32' | 'BF16';
}

export interface FineTuningRunSession extends Omit<RunSession, 'evaluateEvery' | 'now'> {
  device: Device;
  onStep?(report: FineTuningStep): void;
  onEpoch?(report: EpochReport & { best: boolean; seconds: number }): void;
  /** When all is read. `majority`: of the examples that are scored on, where they have classes. */
  onExamples?(majority: ClassificationReport['majority'] | undefined): void;
}

export interface FineTuningResult extends Omit<FineTuningProgress, 'predictions'> {
  /** All epochs are done, or no better one came for long enough (otherwise the run was stopped). */
  finished: boolean;
  /** Its loss ends above that of guessing. */
  diverged: boolean;
  /** The classes in the model's order; none for a regression. */
  labels: string[];
  /** Examples trained on and scored on. */
  training: number;
  validation: number;
  feedforward: FeedforwardConfig;
  /** What the best epoch's model gets right of the latter; absent before the first epoch, and of a regression. */
  report?: ClassificationReport;
}

/** Without a file of their own, one example of so many of each class is for the scores, drawn by the seed. */
const heldOutEvery = 10;

/**
 * Runs or resumes a fine-tuning. The folder holds the model of the best epoch, and in run/ what a resumed run needs; a resumed run goes on
 * exactly.
 * @throws InputError for unusable files and options
 */
export function runFineTuning(options: FineTuningRunOptions, session: FineTuningRunSession): Promise<FineTuningResult> {
  const { device, out } = session;
  const { model: base, train, validation } = options;
  const inputs = { model: [base], train: [train], validation: validation === undefined ? [] : [validation] };
  return inRunFolder('finetune', session, inputs, async ({ folder, group, shared }) => {
    checkPasses(group, options.accumulate ?? 1);
    const data = await readExamples(options, await trainedClasses(options.model));
    const tokenizer = await tokenizerTogether(group, () => loadTokenizer(folder.isNew ? options.model : out, session.onNotice));
    const { labels } = data;
    using model = await loadSequenceClassifier(options.model, device, {
      notice: session.onNotice,
      fresh: { labels: Math.max(1, labels.length), labelNames: labels.length > 0 ? labels : undefined, seed: options.seed },
    });
    const { metric } = options;
    if (metric !== undefined && !metricNames(model.labels).includes(metric))
      throw new InputError(`--metric ${metric}: expected ${metricNames(model.labels).join(' or ')} for these labels`);
    checkVocabulary(options.model, tokenizer, model.config);
    const length = Math.min(options.length, model.config.maxPositionEmbeddings);
    if (length < options.length && options.length !== fineTuningRecipe.length)
      session.onNotice?.(`texts of at most ${length} tokens, not ${options.length}: more the model cannot read`);
    const losses = new LossNotice((line) => session.onNotice?.(line));
    const encode = async (texts: Examples['training']): Promise<(EncodedText & { label: number })[]> => {
      const { encoded, cut } = await encodeTexts(texts, tokenizer, length, { losses, signal: session.signal });
      if (cut > 0)
        session.onNotice?.(
          `${cut} of ${texts.length} texts ${cut === 1 ? 'has' : 'have'} more than ${length} tokens: the end was left out`,
        );
      return encoded.map((text, index) => ({ ...text, label: texts[index].label }));
    };
    const examples = { training: await encode(data.training), validation: await encode(data.validation) };
    if (folder.isNew) await group.fromFirst('a tokenizer', () => saveTokenizer(out, tokenizer, model.config));
    await folder.record(options);
    const scored = data.validation.map(({ label }) => label);
    session.onExamples?.(labels.length > 0 ? classificationReport(scored, scored, labels).majority : undefined);

    const state = new FineTuningState(out, {
      fingerprint: data.fingerprint,
      changed: `${options.train}: is not what the run in ${out} was started with; put the file back, or start another run`,
      group,
    });
    const result = await fineTune(model, examples, options, {
      device,
      ranks: session.ranks,
      shared,
      advice: 'try a lower --learning-rate',
      async restore(optimizer) {
        const saved = session.resume && (await state.exists());
        if (session.resume && !saved) session.onNotice?.('the run was stopped before its first save: starting again');
        const progress = saved ? await state.restore(optimizer) : undefined;
        await checkSameWeights(group, model.parameters, 'at the start');
        await session.onStart?.({ id: folder.id, step: progress?.step ?? 0 });
        return progress;
      },
      onStep: session.onStep,
      onNotice: session.onNotice,
      checkpointEvery: session.checkpointEvery,
      async afterEpoch(progress, _, best) {
        // The state after that: a crash in between leaves an older state, whose steps are taken again.
        if (best) {
          await checkSameWeights(group, model.parameters, `epoch ${progress.epochs.length}`);
          await group.fromFirst('a checkpoint', () => saveCheckpoint(out, model, { tokenizer, dtype: options.dtype }));
        }
        const report = progress.epochs[progress.epochs.length - 1];
        session.onEpoch?.({ ...report, best, seconds: progress.seconds });
      },
      save: (progress, optimizer) => state.save(progress, optimizer),
    });
    const { predictions, ...progress } = result;
    const report = labels.length > 0 && predictions ? classificationReport(predictions, scored, labels) : undefined;
    const epochLosses = result.finished ? result.epochs.map(({ loss }) => loss) : [];
    const { diverged, notice } = verdictOnFineTuning(epochLosses, model.labels);
    if (notice) session.onNotice?.(notice);
    return {
      ...progress,
      diverged,
      labels,
      training: data.training.length,
      validation: data.validation.length,
      report,
      feedforward: model.config.feedforward,
    };
  });
}

interface Examples {
  training: LabeledText[];
  validation: LabeledText[];
  /** Names of the classes, in order; none for a regression. */
  labels: string[];
  /** Tells one set of examples from another. */
  fingerprint: number;
}

/** The classes of a model's head that was trained already, in its order: none for a regression, undefined without such a head. */
async function trainedClasses(folder: string): Promise<string[] | undefined> {
  const head = await readTrainedHead(folder);
  return head && (head.outputs === 1 ? [] : (head.labelNames ?? Array.from({ length: head.outputs }, (_, i) => `${i}`)));
}

async function readExamples({ model, train, validation, seed }: FineTuningRunOptions, trained: string[] | undefined): Promise<Examples> {
  const first = await readLabeledFile(train);
  const second = validation === undefined ? undefined : await readLabeledFile(validation);
  if (second && second.kind !== first.kind)
    throw new InputError(`${validation}: holds ${second.kind}, expected ${first.kind} as ${train} does`);
  const hasPair = ({ records }: LabeledFile) => records[0].pair !== undefined;
  if (second && hasPair(second) !== hasPair(first))
    throw new InputError(`${validation}: has ${hasPair(second) ? 'pairs of texts' : 'single texts'}, unlike ${train}`);
  const found = first.kind === 'classes' ? classNames(first, train) : [];
  const labels = trained ?? found;
  if (`${[...labels].sort()}` !== `${[...found].sort()}`)
    throw new InputError(
      `${model}: is a classifier already, of ${someOf(labels)}; ${train} has ${someOf(found)}: name the model from before it was fine-tuned`,
    );
  const indexOf = new Map(labels.map((name, index) => [name, index]));
  const numbered = ({ records }: LabeledFile, path: string) =>
    records.map(({ text, pair, label, line }) => {
      const value = typeof label === 'number' ? label : indexOf.get(label);
      if (value === undefined)
        throw new InputError(`${path}, line ${line}: class '${label}' does not occur in ${train}, which has ${someOf(labels)}`);
      return { text, pair, label: value };
    });
  const all = numbered(first, train);
  const heldOut = second ? new Set<number>() : drawHeldOut(all, labels.length > 0, seed);
  const scored = second ? numbered(second, validation as string) : all.filter((_, index) => heldOut.has(index));
  if (scored.length === 0)
    throw new InputError(
      `${train}: has ${all.length} examples, expected at least ${heldOutEvery}, of which one is kept for the scores; or name a file with --validation`,
    );
  const training = all.filter((_, index) => !heldOut.has(index));
  const fingerprint = [...training, ...scored].reduce((hash, { text, pair, label }) => hashText(`${hash} ${label} ${text} ${pair}`), 0);
  return { training, validation: scored, labels, fingerprint };
}

function drawHeldOut(examples: readonly { label: number }[], classes: boolean, seed: number): Set<number> {
  const groups = new Map<number, number[]>();
  for (const [index, { label }] of examples.entries()) {
    const group = groups.get(classes ? label : 0) ?? [];
    if (group.length === 0) groups.set(classes ? label : 0, group);
    group.push(index);
  }
  const random = new CounterRandom(seed, randomStream.split, 0);
  return new Set([...groups.values()].flatMap((group) => shuffled(group, random).slice(0, Math.round(group.length / heldOutEvery))));
}

const someOf = (classes: readonly string[]) =>
  classes.length > 0 ? `${classes.slice(0, 10).join(', ')}${classes.length > 10 ? ', ...' : ''}` : 'scores';

/** The classes in order of their names, numbers by value. */
function classNames({ records }: LabeledFile, path: string): string[] {
  const names = [...new Set(records.map(({ label }) => `${label}`))];
  const numeric = names.every((name) => name.trim() !== '' && Number.isFinite(Number(name)));
  names.sort(numeric ? (a, b) => Number(a) - Number(b) : undefined);
  if (names.length < 2) throw new InputError(`${path}: every example is of class '${names[0]}', expected at least two classes`);
  return names;
}
