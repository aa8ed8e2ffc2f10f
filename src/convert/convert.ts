/** Turning a model with dense feedforward layers into one with trees: the run as a whole. */
import type { Device } from '../backend/device.ts';
import type { PoolKind } from '../backend/operations/pool.ts';
import type { ProductPrecision } from '../backend/prepared_weight.ts';
import { copySentenceFiles } from '../io/sentence_folder.ts';
import { saveCheckpoint } from '../models/checkpoint.ts';
import type { FeedforwardConfig } from '../models/config.ts';
import { countParameters } from '../nn/parameter.ts';
import { saveTokenizer } from '../tokenizer/save_tokenizer.ts';
import { CollapseNotice, spreadingAdvice } from '../training/leaf_use.ts';
import { checkPasses, checkSameWeights } from '../training/meeting.ts';
import { checkFinite, inRunFolder, RunClock, type RunPlace, type RunSession, takeSteps } from '../training/run.ts';
import { hasState } from '../training/run_state.ts';
import { cosineWithWarmup } from '../training/schedules.ts';
import type { Trainer } from '../training/trainer.ts';
import { verdictOnConversion } from '../training/verdict.ts';
import type { Agreement } from './agreement.ts';
import type { Centering } from './centering.ts';
import { type Budgets, prepareConversion } from './convert_start.ts';
import { type ConversionProgress, loadConversion, saveConversion } from './convert_state.ts';
import type { Distillation } from './distillation.ts';
import { TextStream, type TextsOfOneLength } from './texts.ts';

/** What a run is: recorded in its folder and the same in every session. */
export interface ConversionOptions {
  /** Folder of the model to convert. */
  model: string;
  /** Text files, plain or gzipped, one paragraph a line, blank lines between documents. */
  corpus: string[];
  /** What the blocks' feedforward part becomes. */
  feedforward: FeedforwardConfig;
  /** Blocks that are kept; all of them if absent. */
  layers?: number;
  /** Tokens for fitting the new layers one by one, and then for training the whole network; without new layers all of them are for that. */
  fitTokens: number;
  tokens: number;
  /** Tokens of a batch, about, and of a text at most. */
  batch: number;
  length: number;
  /** Batches a step; 1 if absent. */
  accumulate?: number;
  /** Of the student's products of matrices; f32 if absent. */
  precision?: ProductPrecision;
  /** Peaks: while the new layers are fitted, and after that. */
  fitLearningRate: number;
  learningRate: number;
  /** Whether the embeddings are trained along, and with them a masked language model's decoder, which is the word embedding. */
  trainEmbeddings: boolean;
  /** Of a sentence model, how a text's vector is made of its tokens'; of others, logits are trained if they have a head, and hidden states. */
  pooling?: PoolKind;
  /** Of a sentence model that lower-cases texts before its tokenizer has them. */
  lowerCase?: boolean;
  /** What the answers (vectors, or logits) count beside one hidden state. */
  answerWeight: number;
  /** How fast routing thresholds follow their tokens while layers are fitted, and after that, at the peak; see `Trainer.step`. */
  fitBalance: number;
  balance: number;
  /** Of trees; see `AdamWOptions`. Above 0 they also start alike. */
  branchRate?: number;
  /** Of the new layers' weights, as AdamW has it; 0 if absent. What is kept of the model does not decay. */
  weightDecay?: number;
  seed: number;
  /** Every N-th document of the corpus is held out; of these, texts that the agreement is measured on. */
  heldOutEvery: number;
  heldOutTexts: number;
  /** Of model.safetensors. */
  dtype: 'F32' | 'BF16';
}

export interface ConversionStep {
  step: number;
  phase: 'fit' | 'train';
  tokens: number;
  /** Sum over the hidden states (and the answers) of squared errors over variances. */
  loss: number;
  gradientNorm: number;
  learningRate: number;
  /** Spent share of the whole run's tokens. */
  progress: number;
  seconds: number;
  /** Over the last steps. */
  tokensPerSecond: number;
}

export interface ConversionSession extends RunSession {
  device: Device;
  onStep?(report: ConversionStep): void;
  onAgreement?(report: ConversionProgress['history'][number]): void;
}

export interface ConversionResult extends ConversionProgress {
  finished: boolean;
  /** It ends far worse than a constant. */
  diverged: boolean;
  /** How often the corpus was read. */
  passes: number;
  parameters: number;
}

/** Of each phase, the share in which the learning rate rises. */
const warmup = 0.05;
/**
 * Runs or resumes a conversion. New layers are first fitted one by one, all of them from the same pass of the model that is converted:
 * each to the hidden state behind it, with the hidden state before it as input. Then the whole network is trained to have the same hidden
 * states and to answer alike. The folder holds what others open (config.json, model.safetensors, tokenizer.json) from the first save on.
 * @throws InputError for unusable files and options; FailureError if the loss is not finite
 */
export function convert(options: ConversionOptions, session: ConversionSession): Promise<ConversionResult> {
  const { out } = session;
  const inputs = { corpus: options.corpus, model: [options.model] };
  return inRunFolder('convert', session, inputs, async ({ folder, open, group, shared }) => {
    checkPasses(group, options.accumulate ?? 1);
    const work = await prepareConversion(options, session, open);
    const { tokenizer, pooler, model, trainer, centering } = work;
    const saved = await group.fromFirst('whether there is a state', async () => session.resume && (await hasState(out)));
    const resumed = saved ? await loadConversion(out, trainer.optimizer, centering, model.config, group) : undefined;
    await checkSameWeights(group, model.parameters, 'at the start');
    if (session.resume && !resumed) session.onNotice?.('the run was stopped before its first save: starting again');
    const stream = await TextStream.open(work.texts, resumed?.texts);
    try {
      // Before the folder holds a run: one that is resumed does not copy them again.
      if (folder.isNew)
        await group.fromFirst("the model's files", async () => {
          await copySentenceFiles(options.model, out);
          await saveTokenizer(out, tokenizer, model.config);
        });
      await folder.record(options);
      const progress = resumed?.progress ?? { step: 0, fitted: 0, trained: 0, seconds: 0, history: [] };
      await session.onStart?.({ id: folder.id, step: progress.step });
      const save = async () => {
        await checkSameWeights(group, model.parameters, `step ${progress.step}`);
        await group.fromFirst('a checkpoint', () =>
          centering.folded(() => saveCheckpoint(out, model, { tokenizer, dtype: options.dtype, rest: pooler })),
        );
        await saveConversion(out, trainer.optimizer, { texts: stream.state, means: centering.means, progress }, group);
      };
      const finished = await train({ ...work, options, session, group, shared, stream, progress, save });
      const last = finished ? progress.history.at(-1) : undefined;
      const { diverged, notice } = verdictOnConversion(last ? [...last.states, last.vectors] : []);
      if (notice) session.onNotice?.(notice);
      return { ...progress, finished, diverged, passes: stream.passes, parameters: countParameters(model.parameters) };
    } finally {
      await stream.close();
    }
  });
}

interface Training extends Pick<RunPlace, 'group' | 'shared'> {
  options: ConversionOptions;
  budgets: Budgets;
  session: ConversionSession;
  trainer: Trainer;
  stream: TextStream;
  distillation: Distillation;
  centering: Centering;
  progress: ConversionProgress;
  agreement(): Promise<Agreement>;
  save(): Promise<void>;
}

async function train({
  options,
  budgets,
  session,
  group,
  shared,
  trainer,
  stream,
  distillation,
  centering,
  progress,
  agreement,
  save,
}: Training): Promise<boolean> {
  const tokens = () => progress.fitted + progress.trained;
  await shared.meet?.();
  const own = group.share(options.accumulate ?? 1);
  const clock = new RunClock(shared, { seconds: progress.seconds, tokens: tokens() });
  const collapse = new CollapseNotice(options.feedforward, session.onNotice, spreadingAdvice);
  let savedStep = progress.step;
  return takeSteps({ ...session, ...shared }, clock, {
    done: () => progress.fitted >= budgets.fit && progress.trained >= budgets.train,
    // When the fit is over.
    due: () => budgets.fit > 0 && progress.fitted >= budgets.fit && !progress.history.some(({ fitted }) => fitted >= budgets.fit),
    async step() {
      const texts: TextsOfOneLength[] = [];
      while (texts.length < (options.accumulate ?? 1)) texts.push(await stream.next());
      const stepTokens = texts.reduce((sum, { ids }) => sum + ids.length, 0);
      const phase = progress.fitted < budgets.fit ? 'fit' : 'train';
      const [used, budget, peak, balance] =
        phase === 'fit'
          ? [progress.fitted, budgets.fit, options.fitLearningRate, options.fitBalance]
          : [progress.trained, budgets.train, options.learningRate, options.balance];
      const multiplier = cosineWithWarmup(Math.min(1, (used + stepTokens / 2) / budget), warmup);
      const learningRate = peak * multiplier;
      const passes = texts.map((batch, i) =>
        own.first <= i && i < own.end ? distillation.pass(batch, phase === 'fit' ? 'blocks' : 'network') : undefined,
      );
      // The next texts are read and tokenized while the backend computes.
      const [result] = await Promise.all([trainer.step(passes, passes.length, learningRate, balance * multiplier), stream.prefetch()]);
      await centering.follow(undefined, group);
      progress.step++;
      const advice = `try a lower ${phase === 'fit' ? '--fit-learning-rate' : '--learning-rate'}`;
      checkFinite(result, { step: progress.step, learningRate, advice, saved: { step: savedStep, out: session.out } });
      progress[phase === 'fit' ? 'fitted' : 'trained'] += stepTokens;
      session.onStep?.({
        step: progress.step,
        phase,
        tokens: tokens(),
        ...result,
        learningRate,
        progress: Math.min(1, tokens() / (budgets.fit + budgets.train)),
        seconds: clock.seconds,
        tokensPerSecond: clock.tokensPerSecond(tokens()),
      });
    },
    async evaluate() {
      const { fitted, trained } = progress;
      const report = { ...(await group.fromFirst('an agreement', agreement)), fitted, trained, seconds: clock.seconds };
      progress.history.push(report);
      session.onAgreement?.(report);
      collapse.check(report.layers);
    },
    async save() {
      progress.seconds = clock.seconds;
      await save();
      savedStep = progress.step;
    },
  });
}
