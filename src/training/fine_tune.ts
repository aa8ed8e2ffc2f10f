/** Training a classifier on labeled texts: the loop, without files. `ufb finetune` and `ufb glue` both run it. */

import * as v from 'valibot';
import type { Device } from '../backend/device.ts';
import type { ProductPrecision } from '../backend/prepared_weight.ts';
import { FailureError, InputError, overflow } from '../errors.ts';
import { countSchema, secondsSchema } from '../io/schemas.ts';
import type { SequenceClassifier } from '../models/sequence_classifier.ts';
import { batchesByLength, batchOf, type EncodedText } from '../models/text_batches.ts';
import type { Context } from '../nn/parameter.ts';
import type { CharacterLoss, LossNotice } from '../tokenizer/character_loss.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { CollapseNotice, LeafCounts, leafUseSchema, watchLeaves } from './leaf_use.ts';
import { accuracy, f1, macroF1, matthewsCorrelation, pearson, spearman } from './metrics.ts';
import type { AdamW, AdamWOptions } from './optimizer.ts';
import { CounterRandom, randomStream, shuffled } from './random.ts';
import { checkFinite } from './run.ts';
import { cosineWithWarmup } from './schedules.ts';
import { mean } from './statistics.ts';
import { Trainer } from './trainer.ts';

/** A text, or two that are judged together, with its class (an index) or, for a regression, its score. */
export interface LabeledText {
  text: string;
  pair?: string;
  label: number;
}

/** crammedBERT's recipe (arXiv 2212.14034, section 5), the same for every task, but for `seed`. */
export interface FineTuningOptions {
  epochs: number;
  /** Sequences a step. */
  batch: number;
  /** Of products of matrices; f32 if absent. */
  precision?: ProductPrecision;
  /** Peak; it rises over the first tenth of the steps and falls along half a cosine. */
  learningRate: number;
  /** Tokens of a text, at most; longer ones are cut. */
  length: number;
  /** Of the order of the examples, of dropout, and of a new head. */
  seed: number;
  /** Stop after so many epochs without a better score; absent: never. */
  patience?: number;
  /** Which score is compared; by default the first of {@link metricNames}. */
  metric?: string;
}

const fineTuningAdamW: AdamWOptions = { beta1: 0.9, beta2: 0.98, epsilon: 1e-6, weightDecay: 0, clipNorm: 0.5 };

/** Scores by name, as {@link metricNames} lists them. */
export type Scores = Record<string, number>;

const epochSchema = v.object({
  /** Epochs done, from 1. */
  epoch: countSchema,
  /** Mean training loss of the epoch: nats, or squared error. */
  loss: v.number(),
  /** On the validation examples; without any, none. */
  scores: v.record(v.string(), v.number()),
  /** How the validation examples' tokens spread over the leaves of each layer; none without trees. */
  layers: v.optional(v.array(leafUseSchema)),
  /** The same loss on the validation examples, dropout off. */
  validationLoss: v.optional(v.number()),
});
export type EpochReport = v.InferOutput<typeof epochSchema>;

export const fineTuningProgressSchema = v.object({
  /** Optimizer steps taken, in all and in the epoch at hand. */
  step: countSchema,
  stepOfEpoch: countSchema,
  /** Tokens trained on, without padding. */
  tokens: countSchema,
  /** Seconds spent, over all sessions. */
  seconds: secondsSchema,
  /** Sum of the losses of the epoch at hand, a term for each of its examples so far. */
  epochLoss: v.number(),
  epochs: v.array(epochSchema),
  /** The best epoch, from 1; 0 before the first, and where there are no validation examples. Of equal scores the one with the lower validation loss. */
  best: countSchema,
  /** What the best epoch's model says of each validation example: classes, or numbers. */
  predictions: v.optional(v.array(v.number())),
});

/** How far a fine-tuning has come. */
export type FineTuningProgress = v.InferOutput<typeof fineTuningProgressSchema>;

export interface FineTuningSession {
  device: Device;
  /** Stops after the step at hand. */
  signal?: AbortSignal;
  /** What to do where a loss is not finite; by default to try a lower learning rate. */
  advice?: string;
  onNotice?(line: string): void;
  /** Puts back weights and moments of a run that was stopped, and says how far it was. */
  restore?(optimizer: AdamW): Promise<FineTuningProgress | undefined>;
  onStep?(report: FineTuningStep): void;
  /** After each step that does not end an epoch. */
  afterStep?(progress: FineTuningProgress, optimizer: AdamW): Promise<void>;
  /** When the signal has stopped it. */
  afterStop?(progress: FineTuningProgress, optimizer: AdamW): Promise<void>;
  /** After each epoch, when it is scored, if it is; `best`: the model as it is now is the best so far. */
  afterEpoch?(progress: FineTuningProgress, optimizer: AdamW, best: boolean): Promise<void>;
}

export interface FineTuningStep {
  step: number;
  epoch: number;
  loss: number;
  learningRate: number;
  /** Spent share of all steps. */
  progress: number;
  seconds: number;
  /** Tokens without padding, over this session. */
  tokensPerSecond: number;
}

/** The scores of a task with so many labels, the one that is compared by default first: 1 label is a regression. */
export function metricNames(labels: number): readonly string[] {
  if (labels === 1) return ['spearman', 'pearson'];
  return labels === 2 ? ['accuracy', 'f1', 'matthews', 'macroF1'] : ['accuracy', 'macroF1'];
}

/** All scores of a task. `predictions`: classes, or with one label numbers. */
export function scoresOf(labels: number, predictions: ArrayLike<number>, truth: ArrayLike<number>): Scores {
  const metrics = { accuracy, f1, matthews: matthewsCorrelation, macroF1, pearson, spearman } as Record<string, typeof accuracy>;
  return Object.fromEntries(metricNames(labels).map((name) => [name, metrics[name](predictions, truth)]));
}

/**
 * Texts as the model takes them, and how many were cut to `length` tokens. Lets timers fire in between.
 * @throws the signal's reason
 */
export async function encodeTexts(
  texts: readonly { text: string; pair?: string }[],
  tokenizer: Tokenizer,
  length: number,
  { losses, signal }: { losses?: LossNotice; signal?: AbortSignal } = {},
): Promise<{ encoded: EncodedText[]; cut: number }> {
  const encoded: EncodedText[] = [];
  const lossOf: { loss: CharacterLoss }[] = [];
  let cut = 0;
  for (const [index, { text, pair }] of texts.entries()) {
    signal?.throwIfAborted();
    const { ids, typeIds, truncated, loss } = tokenizer.encode(text, { pair, maxLength: length });
    lossOf.push({ loss });
    encoded.push({ ids: Int32Array.from(ids), typeIds: Int32Array.from(typeIds) });
    if (truncated > 0) cut++;
    if (index % 512 === 511) await new Promise((resolve) => setTimeout(resolve));
  }
  losses?.of(lossOf);
  return { encoded, cut };
}

/**
 * Logits [texts, labels] of a classifier, in the order given. `counts` is told where tokens went.
 * @throws FailureError if one is not finite
 */
export async function logitsOf(
  trainer: Pick<Trainer, 'inference'>,
  model: SequenceClassifier,
  encoded: readonly EncodedText[],
  { signal, counts }: { signal?: AbortSignal; counts?: LeafCounts } = {},
): Promise<Float32Array> {
  const all = new Float32Array(encoded.length * model.labels);
  for (const members of batchesByLength(encoded, { unpadded: needsEqualLengths(model) })) {
    signal?.throwIfAborted();
    const batch = batchOf(encoded, members);
    const read = (context: Context) => context.device.read(model.logits(context, batch));
    const logits = await trainer.inference(async (context) => {
      if (!counts) return read(context);
      const [values, leaves] = await watchLeaves(context, read);
      counts.add(leaves, batch.attentionMask);
      return values;
    });
    members.forEach((index, row) => {
      const own = logits.subarray(row * model.labels, (row + 1) * model.labels);
      if (!own.every(Number.isFinite))
        throw new FailureError(`example ${index + 1} of those scored: the model's logits are not finite: ${overflow}`);
      all.set(own, index * model.labels);
    });
  }
  return all;
}

/** What logits [texts, labels] say of each text: the most probable class, -1 where none is finite, or the number where there is one label. */
export function predictionsOf(logits: Float32Array, labels: number): number[] {
  if (labels === 1) return Array.from(logits);
  return rows(logits, labels).map((own) => own.indexOf(own.reduce((a, b) => Math.max(a, b))));
}

/** The mean loss of logits [texts, labels]: cross-entropy in nats, or with one label the squared error. */
export function lossOf(logits: Float32Array, labels: number, truth: readonly number[]): number {
  if (labels === 1) return mean(truth.map((score, index) => (logits[index] - score) ** 2));
  return mean(
    rows(logits, labels).map((own, index) => {
      const largest = own.reduce((a, b) => Math.max(a, b));
      return Math.log(own.reduce((sum, logit) => sum + Math.exp(logit - largest), 0)) + largest - own[truth[index]];
    }),
  );
}

const rows = (values: Float32Array, width: number) =>
  Array.from({ length: values.length / width }, (_, row) => values.subarray(row * width, (row + 1) * width));

/**
 * Trains a classifier, epoch after epoch, each in another order. The model ends as the last step left it: who wants the best epoch saves
 * it when `afterEpoch` says so. The same options, examples and backend give the same weights, stopped in between or not.
 *
 * @returns how far it came; `finished` is false if the signal stopped it
 * @throws InputError if there are no examples, or labels do not fit the model; FailureError if a step's loss or gradient is not finite
 */
export async function fineTune(
  model: SequenceClassifier,
  data: {
    training: readonly (EncodedText & { label: number })[];
    validation?: readonly (EncodedText & { label: number })[];
  },
  options: FineTuningOptions,
  session: FineTuningSession,
): Promise<FineTuningProgress & { finished: boolean }> {
  const { device, signal } = session;
  const { training, validation } = data;
  const { epochs, learningRate: peak, seed, patience = epochs } = options;
  if (training.length === 0) throw new InputError('there are no examples to train on');
  const metric = options.metric ?? metricNames(model.labels)[0];
  if (!metricNames(model.labels).includes(metric))
    throw new InputError(`metric '${metric}' is none of this task, expected one of ${metricNames(model.labels).join(', ')}`);
  const stopped = async () => {
    await session.afterStop?.(progress, optimizer);
    return { ...progress, finished: false };
  };
  using trainer = new Trainer(device, model.parameters, { adamW: fineTuningAdamW, dropoutSeed: seed, precision: options.precision });
  const { optimizer } = trainer;
  const progress = (await session.restore?.(optimizer)) ?? {
    step: 0,
    stepOfEpoch: 0,
    tokens: 0,
    seconds: 0,
    epochLoss: 0,
    epochs: [],
    best: 0,
  };
  optimizer.steps = progress.step;
  const started = performance.now() - progress.seconds * 1000;
  const before = { tokens: progress.tokens, seconds: progress.seconds };
  const collapse = new CollapseNotice(model.config.feedforward, session.onNotice);

  for (let epoch = progress.epochs.length; epoch < epochs; epoch++) {
    const since = epoch - progress.best;
    if (progress.best > 0 && since >= patience) break;
    const order = epochBatches(training, options.batch, seed, epoch, needsEqualLengths(model));
    const total = order.length * epochs;
    while (progress.stepOfEpoch < order.length) {
      if (signal?.aborted) return await stopped();
      const members = order[progress.stepOfEpoch];
      const share = (epoch * order.length + progress.stepOfEpoch) / total;
      const learningRate = peak * cosineWithWarmup(share);
      const batch = batchOf(training, members);
      const labels = members.map((index) => training[index].label);
      const labeled = { ...batch, labels: model.labels === 1 ? Float32Array.from(labels) : Int32Array.from(labels) };
      const pass = (context: Context, scale: number) => model.lossAndGradients(context, labeled, { scale });
      const result = await trainer.step([pass], members.length, learningRate);
      checkFinite(result, { step: progress.step + 1, learningRate, advice: session.advice });
      const { loss } = result;
      progress.step++;
      progress.stepOfEpoch++;
      progress.tokens += members.reduce((sum, index) => sum + training[index].ids.length, 0);
      progress.epochLoss += loss * members.length;
      progress.seconds = (performance.now() - started) / 1000;
      session.onStep?.({
        step: progress.step,
        epoch: epoch + 1,
        loss,
        learningRate,
        progress: share + 1 / total,
        seconds: progress.seconds,
        tokensPerSecond: (progress.tokens - before.tokens) / (progress.seconds - before.seconds),
      });
      if (progress.stepOfEpoch < order.length) await session.afterStep?.(progress, optimizer);
    }
    if (signal?.aborted) return await stopped();
    const report: EpochReport = { epoch: epoch + 1, loss: progress.epochLoss / training.length, scores: {} };
    progress.epochs.push(report);
    progress.epochLoss = 0;
    progress.stepOfEpoch = 0;
    let best = false;
    if (validation) {
      const counts = new LeafCounts(model.config.feedforward);
      const [logits, truth] = [await logitsOf(trainer, model, validation, { counts }), validation.map(({ label }) => label)];
      if (!logits.every(Number.isFinite))
        throw new FailureError(
          `epoch ${epoch + 1}: logits of the validation examples are not finite; ${session.advice ?? 'try a lower learning rate'}`,
        );
      const predictions = predictionsOf(logits, model.labels);
      report.scores = scoresOf(model.labels, predictions, truth);
      report.validationLoss = lossOf(logits, model.labels, truth);
      const layers = counts.uses;
      if (layers.length > 0) report.layers = layers;
      collapse.check(layers);
      best = isBetter(report, progress.epochs[progress.best - 1], metric);
      if (best) Object.assign(progress, { best: epoch + 1, predictions });
    }
    progress.seconds = (performance.now() - started) / 1000;
    await session.afterEpoch?.(progress, optimizer, best);
  }
  return { ...progress, finished: true };
}

/** Few validation examples give equal scores easily; the loss then tells the epoch that has learnt more. */
function isBetter(report: EpochReport, best: EpochReport | undefined, metric: string): boolean {
  if (!best) return true;
  const [score, other] = [report.scores[metric], best.scores[metric]];
  return score > other || (score === other && (report.validationLoss as number) < (best.validationLoss ?? Number.POSITIVE_INFINITY));
}

/** Pooling that counts every position would make a text's answer depend on what it is batched with. */
const needsEqualLengths = (model: SequenceClassifier) => model.config.pooler.kind !== 'first';

/** Batches that are shuffled together before they are sorted by length: little padding, and neighbors that differ in each epoch. */
const batchesPerWindow = 64;

/** An epoch's batches, by the seed and the epoch. */
function epochBatches(texts: readonly EncodedText[], sequences: number, seed: number, epoch: number, unpadded: boolean): number[][] {
  const random = new CounterRandom(seed, randomStream.fineTuning, epoch);
  const order = shuffled(
    texts.map((_, index) => index),
    random,
  );
  const result: number[][] = [];
  for (let start = 0; start < order.length; start += sequences * batchesPerWindow) {
    const members = order.slice(start, start + sequences * batchesPerWindow);
    result.push(...shuffled([...batchesByLength(texts, { members, sequences, unpadded })], random));
  }
  return result;
}
