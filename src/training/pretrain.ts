/** Masked language model pretraining from text files: the run as a whole. */
import type { Backend } from '../backend/backend.ts';
import { joinPath, kindOf } from '#platform';
import { FailureError, InputError } from '../errors.ts';
import { readLines, writeFileAtomic } from '../io/files.ts';
import { createMaskedLanguageModel, saveCheckpoint } from '../models/checkpoint.ts';
import { configToJson, crammedBertConfig, type ModelConfig, parseConfig } from '../models/config.ts';
import type { LabelledBatch } from '../models/masked_language_model.ts';
import { Tokenizer } from '../tokenizer/tokenizer.ts';
import { trainWordPiece } from '../tokenizer/train_wordpiece.ts';
import { evaluationBatches, nextBatches } from './batches.ts';
import { renderLossCurve } from './loss_curve.ts';
import { createRun, hasState, loadState, type RunProgress, saveState } from './run_state.ts';
import { learningRateMultiplier, type ScheduleName } from './schedules.ts';
import { heldOutSequences, packText, SequenceStream } from './sequences.ts';
import { Trainer } from './trainer.ts';

/** What a run is: recorded in its folder and the same in every session. */
export interface PretrainOptions {
  /** Text files, plain or gzipped, one paragraph a line, blank lines between documents. */
  corpus: string[];
  /** tokenizer.json to use; otherwise one of `vocabulary` entries is trained on the corpus. */
  tokenizer?: string;
  vocabulary: number;
  layers: number;
  hidden: number;
  heads: number;
  feedforward: 'fff' | 'dense';
  /** FFF: trees and their depth. */
  trees: number;
  depth: number;
  /** Dense: neurons of the feedforward layer. */
  intermediate: number;
  /** Tokens a sequence, sequences a micro-batch, micro-batches a step. */
  length: number;
  batch: number;
  accumulate: number;
  /** Budget: one of the two. */
  tokens?: number;
  minutes?: number;
  /** Peak. */
  learningRate: number;
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
export interface PretrainSession {
  backend: Backend;
  out: string;
  resume: boolean;
  /** Seconds between saves, and between held-out losses. */
  checkpointEvery: number;
  evaluateEvery: number;
  /** Stops after the step at hand, saved. */
  signal?: AbortSignal;
  onStep?(report: StepReport): void;
  onEvaluation?(report: { step: number; tokens: number; seconds: number; heldOutLoss: number }): void;
  onCheckpoint?(report: { step: number; tokens: number; seconds: number }): void;
  onNotice?(line: string): void;
  /** Milliseconds; for tests. */
  now?(): number;
}

export interface PretrainResult extends RunProgress {
  /** The budget is spent (otherwise the run was stopped). */
  finished: boolean;
  parameters: number;
}

/** Steps between two points of the loss curve. */
const stepsPerPoint = 20;

/**
 * Runs or resumes a pretraining run. A resumed run goes on exactly: on the same backend the weights are, bit for bit, those of a run
 * that was never stopped (with a budget in time, up to the clock's effect on the learning rate).
 * @throws InputError for unusable files and options; FailureError if the loss is not finite
 */
export async function pretrain(options: PretrainOptions, session: PretrainSession): Promise<PretrainResult> {
  const { backend, out } = session;
  const now = session.now ?? (() => performance.now());
  if (!session.resume) await createRun(out, options);
  const tokenizer = await runTokenizer(options, session);
  const { maskId, sepId } = tokenizer;
  if (maskId === undefined || sepId === undefined) throw new InputError(`${options.tokenizer}: has no ${maskId === undefined ? '[MASK]' : '[SEP]'} token, which pretraining needs`);
  const masking = { maskId, vocabularySize: tokenizer.vocabularySize };
  const { length } = options;

  const model = createMaskedLanguageModel(modelConfig(options, tokenizer), backend, options.seed);
  const trainer = new Trainer(backend, model);
  try {
    const resumed = session.resume && (await hasState(out)) ? await loadState(out, trainer.optimizer) : undefined;
    if (session.resume && !resumed) session.onNotice?.('the run was stopped before its first save: starting again');
    const progress: RunProgress = resumed?.progress ?? { step: 0, tokens: 0, seconds: 0, history: [], recentLosses: [] };

    const heldOut = await heldOutBatches(options, tokenizer, masking);
    if (heldOut.length === 0) session.onNotice?.(`no held-out loss: no file of the corpus has ${options.heldOutEvery} documents; name a text with --held-out`);
    const stream = await SequenceStream.open({
      paths: options.corpus,
      tokenizer,
      length,
      seed: options.seed,
      poolSize: options.shuffle,
      heldOutEvery: options.heldOut ? 0 : options.heldOutEvery,
      state: resumed?.stream,
    });
    try {
      await loop();
    } finally {
      await stream.close();
    }

    async function loop(): Promise<void> {
      const started = now() - progress.seconds * 1000;
      const elapsed = () => (now() - started) / 1000;
      const spent = () => (options.minutes ? elapsed() / 60 / options.minutes : progress.tokens / (options.tokens ?? 0));
      const shape = { count: options.accumulate, batch: options.batch, length };
      const tokensPerStep = shape.count * shape.batch * length;
      let saved = { step: progress.step, seconds: elapsed() };
      let evaluated = saved;
      let rate = { seconds: elapsed(), tokens: progress.tokens };
      let tokensPerSecond = 0;

      const evaluate = async () => {
        if (heldOut.length === 0 || (evaluated.step === progress.step && progress.step > 0)) return;
        const heldOutLoss = await trainer.evaluate(heldOut);
        progress.history.push({ step: progress.step, tokens: progress.tokens, heldOutLoss });
        evaluated = { step: progress.step, seconds: elapsed() };
        session.onEvaluation?.({ step: progress.step, tokens: progress.tokens, seconds: elapsed(), heldOutLoss });
      };
      const save = async () => {
        progress.seconds = elapsed();
        await saveState(out, trainer.optimizer, stream.state, progress);
        await saveCheckpoint(out, model, { tokenizer: tokenizer.json, dtype: options.dtype });
        await writeFileAtomic(joinPath(out, 'loss.svg'), renderLossCurve(progress.history));
        saved = { step: progress.step, seconds: elapsed() };
        session.onCheckpoint?.({ step: progress.step, tokens: progress.tokens, seconds: elapsed() });
      };

      while (spent() < 1 && !session.signal?.aborted) {
        const learningRate = options.learningRate * learningRateMultiplier(options.schedule, spent());
        const batches = await nextBatches(stream, shape, options.seed, masking);
        const [{ loss, gradientNorm }] = await Promise.all([trainer.step(batches, learningRate), stream.prefetch(shape.count * shape.batch)]);
        progress.step++;
        progress.tokens += tokensPerStep;
        if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
          throw new FailureError(
            `step ${progress.step}: the ${Number.isFinite(loss) ? "gradient's norm" : 'loss'} is not finite (learning rate ${learningRate.toPrecision(3)}); ` +
              (saved.step > 0 ? `the last good checkpoint is that of step ${saved.step} in ${out}` : 'there is no checkpoint yet') +
              '; try a lower --learning-rate',
          );
        }
        progress.recentLosses.push(loss);
        if (progress.recentLosses.length === stepsPerPoint) {
          const mean = progress.recentLosses.reduce((a, b) => a + b) / stepsPerPoint;
          progress.history.push({ step: progress.step, tokens: progress.tokens, loss: mean });
          progress.recentLosses = [];
        }
        const seconds = elapsed();
        if (seconds - rate.seconds > 2) {
          tokensPerSecond = (progress.tokens - rate.tokens) / (seconds - rate.seconds);
          rate = { seconds, tokens: progress.tokens };
        }
        session.onStep?.({ step: progress.step, tokens: progress.tokens, loss, gradientNorm, learningRate, progress: Math.min(1, spent()), seconds, tokensPerSecond });
        if (seconds - evaluated.seconds >= session.evaluateEvery) await evaluate();
        if (seconds - saved.seconds >= session.checkpointEvery) await save();
      }
      if (!session.signal?.aborted) await evaluate();
      if (saved.step !== progress.step || progress.step === 0) await save();
    }

    const parameters = model.parameters.reduce((total, { value }) => total + value.size, 0);
    return { ...progress, finished: !session.signal?.aborted, parameters };
  } finally {
    trainer.dispose();
    model.dispose();
  }
}

/** The tokenizer in the run's folder, put there first if the run is new. */
async function runTokenizer(options: PretrainOptions, session: PretrainSession): Promise<Tokenizer> {
  const path = joinPath(session.out, 'tokenizer.json');
  if ((await kindOf(path)) === 'file') return Tokenizer.load(path);
  if (options.tokenizer) {
    const tokenizer = await Tokenizer.load(options.tokenizer);
    await writeFileAtomic(path, `${JSON.stringify(tokenizer.json)}\n`);
    return tokenizer;
  }
  session.onNotice?.(`training a tokenizer of ${options.vocabulary} entries`);
  const json = await trainWordPiece(allLines(options.corpus), { vocabularySize: options.vocabulary });
  await writeFileAtomic(path, `${JSON.stringify(json)}\n`);
  return Tokenizer.fromJson(json, path);
}

async function* allLines(paths: readonly string[]): AsyncGenerator<string> {
  for (const path of paths) yield* readLines(path);
}

async function heldOutBatches(options: PretrainOptions, tokenizer: Tokenizer, masking: { maskId: number; vocabularySize: number }): Promise<LabelledBatch[]> {
  const { length, batch, heldOutSequences: count, heldOutEvery } = options;
  const sequences = options.heldOut
    ? (await packText({ path: options.heldOut, tokenizer, length, count })).sequences
    : heldOutEvery > 0
      ? await heldOutSequences({ paths: options.corpus, tokenizer, length, count, heldOutEvery })
      : new Int32Array(0);
  if (options.heldOut && sequences.length === 0) throw new InputError(`${options.heldOut}: is too short for one sequence of ${length} tokens`);
  return evaluationBatches(sequences, { batch, length }, options.seed, masking);
}

/** The model's configuration, checked as one read from a file is. */
function modelConfig(options: PretrainOptions, tokenizer: Tokenizer): ModelConfig {
  const { layers, hidden, heads, trees, depth, intermediate, length } = options;
  const config = crammedBertConfig({
    vocabularySize: tokenizer.vocabularySize,
    hiddenSize: hidden,
    layers,
    heads,
    positions: length,
    padId: tokenizer.padId ?? 0,
    feedforward: options.feedforward === 'fff' ? { kind: 'fff', trees, depth } : { kind: 'dense', neurons: intermediate },
  });
  return parseConfig(configToJson(config), 'the model asked for');
}
