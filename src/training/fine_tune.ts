/** Training a classifier on labeled texts: the loop, without files. `ufb finetune` and `ufb glue` both run it. */

import * as v from 'valibot';
import type { Device } from '../backend/device.ts';
import type { ProductPrecision } from '../backend/prepared_weight.ts';
import { alone } from '../distributed/group.ts';
import { InputError } from '../errors.ts';
import { countSchema, secondsSchema } from '../io/schemas.ts';
import type { SequenceClassifier } from '../models/sequence_classifier.ts';
import { batchOf, type EncodedText } from '../models/text_batches.ts';
import { scoreClassifier } from './classifier_scores.ts';
import { epochBatches, needsEqualLengths } from './epoch_batches.ts';
import { CollapseNotice, leafUseSchema } from './leaf_use.ts';
import { type Shared, sharedSession } from './meeting.ts';
import { metricNames } from './metrics.ts';
import type { AdamW, AdamWOptions } from './optimizer.ts';
import { checkFinite, RunClock, type SaveOccasion, takeSteps } from './run.ts';
import { cosineWithWarmup } from './schedules.ts';
import { type Pass, type RankOptions, Trainer } from './trainer.ts';

/** A text, or two that are judged together, with its class (an index) or, for a regression, its score. */
export interface LabeledText {
  text: string;
  pair?: string;
  label: number;
}

/** crammedBERT's recipe (arXiv 2212.14034, section 5), the same for every task, but for `seed`. */
export interface FineTuningOptions {
  epochs: number;
  /** Sequences computed together. */
  batch: number;
  /** Such batches a step; 1 if absent. */
  accumulate?: number;
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
  /** Which score is compared; by default the first of `metricNames`. */
  metric?: string;
}

const fineTuningAdamW: AdamWOptions = { beta1: 0.9, beta2: 0.98, epsilon: 1e-6, weightDecay: 0, clipNorm: 0.5 };

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
  /** Those that train together, and clock and signal as all of them see them; absent: this process alone. */
  ranks?: RankOptions;
  shared?: Shared;
  /** What to do where a loss is not finite; by default to try a lower learning rate. */
  advice?: string;
  onNotice?(line: string): void;
  /** Puts back weights and moments of a run that was stopped, and says how far it was. */
  restore?(optimizer: AdamW): Promise<FineTuningProgress | undefined>;
  onStep?(report: FineTuningStep): void;
  /** Seconds between saves; by default none but those for other reasons. */
  checkpointEvery?: number;
  /** Keeps what `restore` is to put back. */
  save?(progress: FineTuningProgress, optimizer: AdamW, occasion: SaveOccasion): Promise<void>;
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
  const { device, ranks } = session;
  const group = ranks?.group ?? alone;
  const shared = session.shared ?? sharedSession(group, session);
  const { signal } = shared;
  const { training, validation } = data;
  const { epochs, learningRate: peak, seed, patience = epochs, accumulate = 1 } = options;
  if (training.length === 0) throw new InputError('there are no examples to train on');
  const metric = options.metric ?? metricNames(model.labels)[0];
  if (!metricNames(model.labels).includes(metric))
    throw new InputError(`metric '${metric}' is none of this task, expected one of ${metricNames(model.labels).join(', ')}`);
  using trainer = new Trainer(device, model.parameters, {
    adamW: fineTuningAdamW,
    dropoutSeed: seed,
    precision: options.precision,
    ranks,
  });
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
  await shared.meet?.();
  const clock = new RunClock(shared, progress);
  const own = group.share(accumulate);
  const before = { tokens: progress.tokens, seconds: progress.seconds };
  const collapse = new CollapseNotice(model.config.feedforward, session.onNotice);
  let order: { epoch: number; batches: number[][] } | undefined;
  const batches = () => {
    const epoch = progress.epochs.length;
    if (order?.epoch !== epoch) order = { epoch, batches: epochBatches(training, options.batch, seed, epoch, needsEqualLengths(model)) };
    return order.batches;
  };
  const stepsOfEpoch = () => Math.ceil(batches().length / accumulate);

  const { checkpointEvery = Number.POSITIVE_INFINITY } = session;
  const finished = await takeSteps({ ...shared, checkpointEvery, evaluateEvery: Number.POSITIVE_INFINITY }, clock, {
    done: () => progress.epochs.length >= epochs || (progress.best > 0 && progress.epochs.length - progress.best >= patience),
    // When the epoch is over.
    due: () => progress.stepOfEpoch > 0 && progress.stepOfEpoch >= stepsOfEpoch(),
    async step() {
      const epoch = progress.epochs.length;
      const length = stepsOfEpoch();
      const first = progress.stepOfEpoch * accumulate;
      const parts = batches().slice(first, first + accumulate);
      const members = parts.flat();
      const total = length * epochs;
      const share = (epoch * length + progress.stepOfEpoch) / total;
      const learningRate = peak * cosineWithWarmup(share);
      const passes = parts.map((part, i) => (own.first <= i && i < own.end ? passOf(model, training, part) : undefined));
      const result = await trainer.step(passes, members.length, learningRate);
      checkFinite(result, { step: progress.step + 1, learningRate, advice: session.advice });
      const { loss } = result;
      progress.step++;
      progress.stepOfEpoch++;
      progress.tokens += members.reduce((sum, index) => sum + training[index].ids.length, 0);
      progress.epochLoss += loss * members.length;
      progress.seconds = clock.seconds;
      session.onStep?.({
        step: progress.step,
        epoch: epoch + 1,
        loss,
        learningRate,
        progress: share + 1 / total,
        seconds: progress.seconds,
        tokensPerSecond: (progress.tokens - before.tokens) / (progress.seconds - before.seconds),
      });
    },
    async evaluate() {
      // Left to the session that goes on.
      if (signal?.aborted) return;
      const report: EpochReport = { epoch: progress.epochs.length + 1, loss: progress.epochLoss / training.length, scores: {} };
      let predictions: number[] | undefined;
      if (validation) {
        const notFinite = `epoch ${report.epoch}: logits of the validation examples are not finite; ${session.advice ?? 'try a lower learning rate'}`;
        const found = await group.fromFirst('scores', () => scoreClassifier(trainer, model, validation, { notFinite }));
        ({ predictions } = found);
        Object.assign(report, { scores: found.scores, validationLoss: found.loss });
        if (found.layers.length > 0) report.layers = found.layers;
        collapse.check(found.layers);
      }
      progress.epochs.push(report);
      progress.epochLoss = 0;
      progress.stepOfEpoch = 0;
      const best = validation !== undefined && isBetter(report, progress.epochs[progress.best - 1], metric);
      if (best) Object.assign(progress, { best: report.epoch, predictions });
      progress.seconds = clock.seconds;
      await session.afterEpoch?.(progress, optimizer, best);
    },
    save: async (occasion) => session.save?.(progress, optimizer, occasion),
  });
  return { ...progress, finished };
}

function passOf(model: SequenceClassifier, training: readonly (EncodedText & { label: number })[], members: readonly number[]): Pass {
  const labels = members.map((index) => training[index].label);
  const batch = { ...batchOf(training, members), labels: model.labels === 1 ? Float32Array.from(labels) : Int32Array.from(labels) };
  return (context, scale) => model.lossAndGradients(context, batch, { scale });
}

/** Few validation examples give equal scores easily; the loss then tells the epoch that has learnt more. */
function isBetter(report: EpochReport, best: EpochReport | undefined, metric: string): boolean {
  if (!best) return true;
  const [score, other] = [report.scores[metric], best.scores[metric]];
  return score > other || (score === other && (report.validationLoss as number) < (best.validationLoss ?? Number.POSITIVE_INFINITY));
}
