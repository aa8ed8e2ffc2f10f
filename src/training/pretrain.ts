/** Pretraining of a language model from text files: the run as a whole. */
import { joinPath } from '#platform';
import type { Device } from '../backend/device.ts';
import type { ProductPrecision } from '../backend/prepared_weight.ts';
import { writeFileAtomic } from '../io/files.ts';
import { saveCheckpoint } from '../models/checkpoint.ts';
import type { FeedforwardConfig } from '../models/config.ts';
import type { LabeledBatch } from '../models/language_model.ts';
import { countParameters } from '../nn/parameter.ts';
import { saveTokenizer } from '../tokenizer/save_tokenizer.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { loadTokenizer } from '../tokenizer/tokenizer_config.ts';
import type { TextStyleName } from '../tokenizer/word_piece_json.ts';
import { CollapseNotice, type LeafUse, spreadingAdvice } from './leaf_use.ts';
import { renderLossChart } from './loss_chart.ts';
import { checkPasses, checkSameWeights, tokenizerTogether } from './meeting.ts';
import { objectiveOf, type PredictionTask } from './objective.ts';
import type { ObjectiveName } from './objective_names.ts';
import { pretrainingAdamW, startBranchesAlike } from './optimizer.ts';
import { predictionLoss, predictionStep } from './prediction_steps.ts';
import { newTokenizer } from './pretrain_start.ts';
import { loadPretraining, savePretraining } from './pretrain_state.ts';
import { heldOutBatches, openStream } from './pretrain_texts.ts';
import { checkFinite, inRunFolder, RunClock, type RunPlace, type RunSession, takeSteps } from './run.ts';
import { hasState, type RunProgress } from './run_state.ts';
import { learningRateMultiplier, type ScheduleName } from './schedules.ts';
import type { SequenceStream } from './sequences.ts';
import { mean } from './statistics.ts';
import { Trainer } from './trainer.ts';
import { unigramLoss, type Verdict, verdictOnPretraining } from './verdict.ts';

/** What a run is: recorded in its folder and the same in every session. */
export interface PretrainOptions {
  /** What is predicted; 'masked' if absent. */
  objective?: ObjectiveName;
  /** Folder of a model, as a run with the same objective leaves one, that the run starts from instead of new weights; its shape and tokenizer are then those of the run, whatever is said of a new model's. */
  model?: string;
  /** Text files, plain or gzipped, one paragraph a line, blank lines between documents. */
  corpus: string[];
  /** tokenizer.json to use; otherwise one of `vocabulary` entries is trained on the corpus. */
  tokenizer?: string;
  vocabulary: number;
  /** Of the tokenizer that is trained for masked tokens; 'bert' if absent. */
  normalizer?: TextStyleName;
  layers: number;
  hidden: number;
  heads: number;
  feedforward: 'fff' | 'dense' | 'none';
  /** FFF: trees, their depth, the neurons of a leaf, and those beside the trees that every token uses. */
  trees: number;
  depth: number;
  leafWidth?: number;
  alwaysOn?: number;
  /** Dense: neurons of the feedforward layer. */
  intermediate: number;
  /** Tokens a sequence, sequences a micro-batch, micro-batches a step. */
  length: number;
  batch: number;
  accumulate: number;
  /** Share of the micro-batches whose sequences are perhaps cut, and of which other shares are predicted (see `nextBatches`). */
  variedShare?: number;
  /** Of next tokens: no token sees what comes before its document; otherwise documents are packed as one text. */
  withinDocuments?: boolean;
  /** Budget: one of the two. */
  tokens?: number;
  minutes?: number;
  /** What the budget was before it was extended, if it was: what takes a share of the budget keeps its share of that. */
  startedWith?: { tokens?: number; minutes?: number };
  /** Of products of matrices; f32 if absent. */
  precision?: ProductPrecision;
  /** Peak. */
  learningRate: number;
  /** Of trees; see `AdamWOptions`. Above 0 new ones also start alike. */
  branchRate?: number;
  /** Of trees: how fast routing thresholds follow their tokens, at the peak; see `Trainer.step`. 0, or absent: they stay as they are. */
  balance?: number;
  schedule: ScheduleName;
  seed: number;
  /** Text for the held-out loss; without it every `heldOutEvery`-th document of the corpus is kept for that and never trained on. */
  heldOut?: string;
  heldOutEvery: number;
  /** Sequences of the held-out loss, at most. */
  heldOutSequences: number;
  /** Sequences in the shuffling pool, at most. */
  shuffle: number;
  /** Of model.safetensors. */
  dtype: 'F32' | 'BF16';
}

export interface StepReport {
  step: number;
  tokens: number;
  /** Mean of the step's predicted positions, nats. */
  loss: number;
  gradientNorm: number;
  learningRate: number;
  /** Spent share of the budget. */
  progress: number;
  /** Seconds spent, over all sessions. */
  seconds: number;
  /** Over the last steps. */
  tokensPerSecond: number;
}

/** What may differ from session to session of one run. */
export interface PretrainSession extends RunSession {
  device: Device;
  onStep?(report: StepReport): void;
  onEvaluation?(report: { step: number; tokens: number; seconds: number; heldOutLoss: number; layers: LeafUse[] }): void;
  onCheckpoint?(report: { step: number; tokens: number; seconds: number }): void;
}

export interface PretrainResult extends RunProgress {
  /** The budget is spent (otherwise the run was stopped). */
  finished: boolean;
  /** It ends worse than guessing evenly. */
  diverged: boolean;
  /** How often the corpus was trained on. */
  passes: number;
  parameters: number;
  feedforward: FeedforwardConfig;
}

/**
 * Of a new run's budget, the share in which thresholds stay 0. Descent then lets nearly all tokens take one path, which learns for all of its
 * branches, faster than 2,048 leaves would
 * (docs/decisions/29-one-path-first.md); from there on the leaves learn what tells their tokens apart.
 */
const onePathShare = 0.3;
/** And the share after that in which trees come to branch. */
const settling = 0.1;

/** Steps between two points of the loss curve. */
const stepsPerPoint = 20;

/**
 * Runs or resumes a pretraining run. A resumed run goes on exactly: on the same backend the weights are, bit for bit, those of a run
 * that was never stopped (with a budget in time, up to the clock's effect on the learning rate).
 * @throws InputError for unusable files and options; FailureError if the loss is not finite
 */
export function pretrain(options: PretrainOptions, session: PretrainSession): Promise<PretrainResult> {
  const { device, out } = session;
  const inputs = { corpus: options.corpus, 'held-out': options.heldOut === undefined ? [] : [options.heldOut] };
  return inRunFolder('pretrain', session, inputs, async ({ folder, open, group, shared }) => {
    checkPasses(group, options.accumulate);
    const objective = objectiveOf(options);
    if (!options.model) objective.config({ vocabularySize: options.vocabulary }); // Before the work of training a tokenizer.
    const tokenizer = await tokenizerTogether(group, () =>
      folder.isNew ? newTokenizer(objective, options, session) : loadTokenizer(out, session.onNotice),
    );
    objective.checkTokenizer(tokenizer);
    const saved = await group.fromFirst('whether there is a state', async () => session.resume && (await hasState(out)));
    const task = await objective.start(options.model && (saved && group.isFirst ? out : options.model), tokenizer, session);
    const { model } = task;
    open.push(model);
    const { precision, branchRate } = options;
    if (branchRate && !options.model) for (const parameter of model.parameters) await startBranchesAlike(parameter);
    const trainer = new Trainer(device, model.parameters, {
      adamW: { ...pretrainingAdamW, branchRate },
      precision,
      ranks: session.ranks,
    });
    open.push(trainer);
    const resumed = saved ? await loadPretraining(out, trainer.optimizer, model.config.vocabSize, group) : undefined;
    await checkSameWeights(group, model.parameters, 'at the start');
    if (session.resume && !resumed) session.onNotice?.('the run was stopped before its first save: starting again');
    // First, for it soon tells of a corpus that is none.
    const stream = await openStream(options, task, session, resumed?.stream);
    try {
      const heldOut = await heldOutBatches(options, task, session);
      if (heldOut.length === 0)
        session.onNotice?.(
          `no held-out loss: one document of ${options.heldOutEvery} is held out, which in no file makes ${options.length} tokens; name a text with --held-out`,
        );
      if (folder.isNew) await group.fromFirst('a tokenizer', () => saveTokenizer(out, tokenizer, model.config));
      await folder.record(options);
      const progress = resumed?.progress ?? { step: 0, tokens: 0, seconds: 0, history: [], recentLosses: [] };
      await session.onStart?.({ id: folder.id, step: progress.step });
      const finished = await train({ options, session, group, shared, tokenizer, task, trainer, heldOut, stream, progress });
      const { diverged, notice } = finished ? verdict(progress, heldOut, stream, tokenizer) : { diverged: false };
      if (notice) session.onNotice?.(notice);
      return {
        ...progress,
        finished,
        diverged,
        passes: stream.passes,
        parameters: countParameters(model.parameters),
        feedforward: model.config.feedforward,
      };
    } finally {
      await stream.close();
    }
  });
}

interface Training extends Pick<RunPlace, 'group' | 'shared'> {
  options: PretrainOptions;
  session: PretrainSession;
  tokenizer: Tokenizer;
  task: PredictionTask;
  trainer: Trainer;
  heldOut: LabeledBatch[];
  stream: SequenceStream;
  progress: RunProgress;
}

async function train(training: Training): Promise<boolean> {
  const { options, session, group, shared, tokenizer, task, trainer, heldOut, stream, progress } = training;
  const { out } = session;
  const { model } = task;
  await shared.meet?.();
  const clock = new RunClock(shared, progress);
  const { accumulate: count, batch, length, variedShare } = options;
  const shape = { count, batch, length, variedShare, own: group.share(count) };
  const sequencesPerStep = shape.count * shape.batch;
  const spentOf = ({ minutes, tokens }: Pick<PretrainOptions, 'minutes' | 'tokens'>) =>
    minutes ? clock.seconds / 60 / minutes : progress.tokens / (tokens ?? 0);
  const spent = () => spentOf(options);
  const place = () => ({ step: progress.step, tokens: progress.tokens, seconds: clock.seconds });
  // A model to go on from is past that.
  const balancedFrom = options.model ? 0 : onePathShare;
  const isBalanced = (since = 0) => spentOf(options.startedWith ?? options) >= balancedFrom + since;
  const collapse = new CollapseNotice(model.config.feedforward, session.onNotice, spreadingAdvice);
  let savedStep = progress.step;
  return takeSteps({ ...session, ...shared }, clock, {
    done: () => spent() >= 1,
    due: () => false,
    async step() {
      const multiplier = learningRateMultiplier(options.schedule, spent());
      const learningRate = options.learningRate * multiplier;
      const balance = isBalanced() ? (options.balance ?? 0) * multiplier : 0;
      const batches = await task.next(stream, shape);
      // The next step's text is read and tokenized while the backend computes this one.
      const [result] = await Promise.all([
        predictionStep(trainer, model, batches, learningRate, balance),
        stream.prefetch(sequencesPerStep),
      ]);
      progress.step++;
      progress.tokens += sequencesPerStep * shape.length;
      checkFinite(result, { step: progress.step, learningRate, advice: 'try a lower --learning-rate', saved: { step: savedStep, out } });
      recordLoss(progress, result.loss);
      const tokensPerSecond = clock.tokensPerSecond(progress.tokens);
      session.onStep?.({ ...place(), ...result, learningRate, progress: Math.min(1, spent()), tokensPerSecond });
    },
    async evaluate() {
      if (heldOut.length === 0) return;
      const { loss: heldOutLoss, layers } = await group.fromFirst('a held-out loss', () => predictionLoss(trainer, model, heldOut));
      progress.history.push({ step: progress.step, tokens: progress.tokens, heldOutLoss, layers });
      session.onEvaluation?.({ ...place(), heldOutLoss, layers });
      if (isBalanced(settling)) collapse.check(layers);
    },
    async save() {
      progress.seconds = clock.seconds;
      await checkSameWeights(group, model.parameters, `step ${progress.step}`);
      // The state last: a crash in between leaves an older state, whose steps are taken again, and never a finished run without its model.
      await group.fromFirst('a checkpoint', async () => {
        await saveCheckpoint(out, model, { tokenizer, dtype: options.dtype });
        await writeFileAtomic(joinPath(out, 'loss.svg'), renderLossChart(progress.history));
      });
      await savePretraining(out, trainer.optimizer, stream.state, progress, group);
      savedStep = progress.step;
      session.onCheckpoint?.(place());
    },
  });
}

/** By the last loss on held-out text, or else of the last steps. */
function verdict(
  { history, recentLosses }: RunProgress,
  heldOut: readonly LabeledBatch[],
  stream: SequenceStream,
  tokenizer: Tokenizer,
): Verdict {
  const last = history.findLast(({ heldOutLoss, loss: trained }) => (heldOut.length > 0 ? heldOutLoss : trained) !== undefined);
  const loss = heldOut.length > 0 ? last?.heldOutLoss : recentLosses.length > 0 ? mean(recentLosses) : last?.loss;
  if (loss === undefined) return { diverged: false };
  const { vocabularySize } = tokenizer;
  const labels = heldOut.length > 0 ? heldOut.map((batch) => batch.labels) : [stream.waiting];
  return verdictOnPretraining(loss, unigramLoss(stream.waiting, labels, vocabularySize), vocabularySize);
}

function recordLoss(progress: RunProgress, loss: number): void {
  progress.recentLosses.push(loss);
  if (progress.recentLosses.length < stepsPerPoint) return;
  progress.history.push({ step: progress.step, tokens: progress.tokens, loss: mean(progress.recentLosses) });
  progress.recentLosses = [];
}
