/** Turning a model with dense feedforward layers into one with trees: the run as a whole. */
import * as v from 'valibot';
import type { Device } from '../backend/device.ts';
import type { PoolKind } from '../backend/operations/pool.ts';
import type { ProductPrecision } from '../backend/prepared_weight.ts';
import { FailureError, InputError, overflow } from '../errors.ts';
import { copySentenceFiles } from '../io/model_folder.ts';
import { countSchema, secondsSchema } from '../io/schemas.ts';
import { checkVocabulary, encoderOf, loadModel, type Model, readPooler, saveCheckpoint } from '../models/checkpoint.ts';
import { describeFeedforward, type FeedforwardConfig } from '../models/config.ts';
import { configToJson, parseConfig } from '../models/config_json.ts';
import { countParameters } from '../nn/parameter.ts';
import { saveTokenizer } from '../tokenizer/save_tokenizer.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { loadTokenizer } from '../tokenizer/tokenizer_config.ts';
import { filePositionSchema } from '../training/documents.ts';
import { CollapseNotice, spreadingAdvice } from '../training/leaf_use.ts';
import type { MaskingOptions } from '../training/masking.ts';
import { type AdamW, startBranchesAlike } from '../training/optimizer.ts';
import { checkFinite, inRunFolder, RunClock, type RunSession, takeSteps } from '../training/run.ts';
import { hasState, loadState, saveState } from '../training/run_state.ts';
import { cosineWithWarmup } from '../training/schedules.ts';
import { Trainer } from '../training/trainer.ts';
import { verdictOnConversion } from '../training/verdict.ts';
import { type Agreement, agreementSchema, measureAgreement } from './agreement.ts';
import { answerTo } from './answers.ts';
import type { Centering } from './centering.ts';
import { Distillation } from './distillation.ts';
import { blockMap, createStudent, measureTeacher, studentConfig } from './student.ts';
import { heldOutTexts, leastTokens, type TextOptions, type TextState, TextStream, type TextsOfOneLength } from './texts.ts';

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
  /** Tokens a step, about, and of a text at most. */
  batch: number;
  length: number;
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

const progressSchema = v.object({
  step: countSchema,
  /** Tokens of the fit, and of the training after it. */
  fitted: countSchema,
  trained: countSchema,
  /** Over all sessions. */
  seconds: secondsSchema,
  history: v.array(v.object({ ...agreementSchema.entries, fitted: countSchema, trained: countSchema, seconds: secondsSchema })),
});

/** How far a conversion has come. */
export type ConversionProgress = v.InferOutput<typeof progressSchema>;

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

const distillationAdamW = { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, clipNorm: 1 };
/** Of each phase, the share in which the learning rate rises. */
const warmup = 0.05;
/** Tokens that the teacher is measured on. */
const measuredTokens = 16_384;

/**
 * Runs or resumes a conversion. New layers are first fitted one by one, all of them from the same pass of the model that is converted:
 * each to the hidden state behind it, with the hidden state before it as input. Then the whole network is trained to have the same hidden
 * states and to answer alike. The folder holds what others open (config.json, model.safetensors, tokenizer.json) from the first save on.
 * @throws InputError for unusable files and options; FailureError if the loss is not finite
 */
export function convert(options: ConversionOptions, session: ConversionSession): Promise<ConversionResult> {
  const { out } = session;
  const inputs = { corpus: options.corpus, model: [options.model] };
  return inRunFolder('convert', session, inputs, async (folder, open) => {
    const work = await prepare(options, session, open);
    const { tokenizer, pooler, model, trainer, centering } = work;
    const resumed = session.resume && (await hasState(out)) ? await load(out, trainer.optimizer, centering) : undefined;
    if (session.resume && !resumed) session.onNotice?.('the run was stopped before its first save: starting again');
    const stream = await TextStream.open(work.texts, resumed?.texts);
    try {
      if (folder.isNew) {
        // Before the folder holds a run: one that is resumed does not copy them again.
        await copySentenceFiles(options.model, out);
        await saveTokenizer(out, tokenizer, model.config);
      }
      await folder.record(options);
      const progress = resumed?.progress ?? { step: 0, fitted: 0, trained: 0, seconds: 0, history: [] };
      await session.onStart?.({ id: folder.id, step: progress.step });
      const save = async () => {
        await centering.folded(() => saveCheckpoint(out, model, { tokenizer, dtype: options.dtype, rest: pooler }));
        await saveProgress(out, trainer.optimizer, { texts: stream.state, means: centering.means, progress });
      };
      const finished = await train({ ...work, options, session, stream, progress, save });
      const last = finished ? progress.history.at(-1) : undefined;
      const { diverged, notice } = verdictOnConversion(last ? [...last.states, last.vectors] : []);
      if (notice) session.onNotice?.(notice);
      return { ...progress, finished, diverged, passes: stream.passes, parameters: countParameters(model.parameters) };
    } finally {
      await stream.close();
    }
  });
}

/** Opens the models and what trains them; what has to be disposed of goes to `open`. */
async function prepare(options: ConversionOptions, { device, onNotice, signal }: ConversionSession, open: Disposable[]) {
  const { corpus: paths, batch: batchTokens, seed, heldOutEvery, feedforward } = options;
  const tokenizer = await loadTokenizer(options.model, onNotice);
  const original = await loadModel(options.model, device, { notice: onNotice });
  open.push(original);
  checkVocabulary(options.model, tokenizer, original.config);
  const layers = options.layers ?? original.config.numHiddenLayers;
  checkOptions(original, options, layers);
  const length = Math.min(options.length, original.config.maxPositionEmbeddings);
  const texts: TextOptions = {
    paths,
    tokenizer: options.lowerCase ? tokenizer.lowerCased() : tokenizer,
    length,
    batchTokens,
    seed,
    heldOutEvery,
    masking: options.pooling ? undefined : maskingOf(original, tokenizer, options.model),
    pairs: original.config.typeVocabSize > 1 && tokenizer.sepId !== undefined,
    onNotice,
    signal,
  };
  const heldOut = await heldOutTexts({ ...texts, count: options.heldOutTexts });
  checkHeldOut(heldOut, options);
  const heldOutTokens = heldOut.reduce((sum, { ids }) => sum + ids.length, 0);
  const measured = heldOut.filter((_, i) => i % Math.ceil(heldOutTokens / measuredTokens) === 0);
  const {
    stateVariance,
    answerVariance: variance,
    blocks,
  } = await measureTeacher(encoderOf(original), measured, answerTo(original, options.pooling));
  if (![...stateVariance, variance].every(Number.isFinite))
    throw new FailureError(`${options.model}: its answers to the texts held out of ${paths.join(', ')} are not finite: ${overflow}`);
  const { model, added, centering } = await createStudent(original, blocks, { feedforward, layers, seed, device });
  open.push(model, centering);
  if (options.branchRate) for (const parameter of added) await startBranchesAlike(parameter);
  original.dispose();
  open.splice(open.indexOf(original), 1);
  // Several times as fast as f32, and as good a teacher (docs/decisions/33-conversion-in-two-phases.md).
  const teacher = await loadModel(options.model, device, { dtype: 'i8' });
  open.push(teacher);
  // A classifier made of the converted model is to start from what one made of the original does.
  const pooler = teacher.task === 'sequence-classification' ? [] : await readPooler(options.model);
  freeze(model, options.trainEmbeddings);
  const { branchRate, weightDecay = 0, precision } = options;
  for (const parameter of model.parameters) parameter.decay &&= added.includes(parameter);
  const trainer = new Trainer(device, model.parameters, {
    adamW: { ...distillationAdamW, branchRate, weightDecay },
    precision,
  });
  open.push(trainer);
  const map = blockMap(teacher.config.numHiddenLayers, layers);
  const [theirs, own] = [teacher, model].map((of) => answerTo(of, options.pooling));
  const answers = theirs && own && { teacher: theirs, student: own };
  const distillation = new Distillation(encoderOf(teacher), encoderOf(model), {
    map,
    stateVariance,
    answers: answers && { ...answers, variance, weight: options.answerWeight },
  });
  const logits = options.pooling || teacher.task === 'encoder' ? undefined : answers;
  const agreement = () =>
    centering.folded(() =>
      measureAgreement(
        (infer) => trainer.inference(infer),
        encoderOf(teacher),
        encoderOf(model),
        { map, pooling: options.pooling ?? 'mean', logits },
        heldOut,
      ),
    );
  // What is kept of the model is where it should be; fitting it alone would move it away.
  const budgets: Budgets =
    added.length > 0 ? { fit: options.fitTokens, train: options.tokens } : { fit: 0, train: options.fitTokens + options.tokens };
  return { tokenizer, texts, pooler, model, budgets, centering, trainer, distillation, agreement };
}

/** Tokens of each phase. */
interface Budgets {
  fit: number;
  train: number;
}

/** The variances of states and vectors are measured on them. */
function checkHeldOut(texts: readonly TextsOfOneLength[], { corpus, heldOutEvery, heldOutTexts }: ConversionOptions): void {
  const count = texts.reduce((sum, { batch }) => sum + batch, 0);
  if (count >= 2) return;
  if (heldOutTexts < 2) throw new InputError(`--held-out-texts ${heldOutTexts}: expected at least 2`);
  throw new InputError(
    `${corpus.join(', ')}: the documents held out, one of ${heldOutEvery}, have ${count} texts of ${leastTokens} tokens or more, expected at least 2: give more documents, with blank lines between them, or a smaller --held-out-every`,
  );
}

function checkOptions(original: Model, options: ConversionOptions, layers: number): void {
  const { feedforward, numHiddenLayers: all } = original.config;
  if (options.fitTokens + options.tokens === 0)
    throw new InputError('--fit-tokens and --tokens are both 0: there is nothing to do, expected at least 1 in all');
  if (feedforward.kind !== 'dense')
    throw new InputError(
      `${options.model}: its feedforward layers are ${describeFeedforward(feedforward)}, expected dense ones: they are what is converted`,
    );
  if (options.length < leastTokens) throw new InputError(`--length ${options.length}: expected at least ${leastTokens}`);
  if (layers > all) throw new InputError(`--layers ${layers}: ${options.model} has ${all} layers`);
  const config = studentConfig(original.config, { feedforward: options.feedforward, layers });
  parseConfig(configToJson(config, original.task), 'the model asked for');
}

/** Of a masked language model, how it is masked; of others, nothing. */
function maskingOf({ task, config }: Model, { maskId, vocabularySize }: Tokenizer, folder: string): MaskingOptions | undefined {
  if (task !== 'masked-lm') return undefined;
  if (maskId === undefined) throw new InputError(`${folder}: its tokenizer has no [MASK], which a masked language model is asked about`);
  return { maskId, vocabularySize, share: config.mlmProbability };
}

/** What comes after the blocks stays as it is, but for a decoder that is the word embedding; so does what comes before, unless it is trained along. */
function freeze(model: Model, trainEmbeddings: boolean): void {
  const { embedding, blocks } = encoderOf(model);
  const trained = new Set([...blocks, ...(trainEmbeddings ? [embedding] : [])].flatMap(({ parameters }) => parameters));
  if ('scale' in embedding.position) trained.delete(embedding.position.scale);
  for (const parameter of model.parameters) parameter.frozen = !trained.has(parameter);
}

interface Training {
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
  trainer,
  stream,
  distillation,
  centering,
  progress,
  agreement,
  save,
}: Training): Promise<boolean> {
  const tokens = () => progress.fitted + progress.trained;
  const clock = new RunClock(session, { seconds: progress.seconds, tokens: tokens() });
  const collapse = new CollapseNotice(options.feedforward, session.onNotice, spreadingAdvice);
  let savedStep = progress.step;
  return takeSteps(session, clock, {
    done: () => progress.fitted >= budgets.fit && progress.trained >= budgets.train,
    // When the fit is over.
    due: () => budgets.fit > 0 && progress.fitted >= budgets.fit && !progress.history.some(({ fitted }) => fitted >= budgets.fit),
    async step() {
      const texts = await stream.next();
      const phase = progress.fitted < budgets.fit ? 'fit' : 'train';
      const [used, budget, peak, balance] =
        phase === 'fit'
          ? [progress.fitted, budgets.fit, options.fitLearningRate, options.fitBalance]
          : [progress.trained, budgets.train, options.learningRate, options.balance];
      const multiplier = cosineWithWarmup(Math.min(1, (used + texts.ids.length / 2) / budget), warmup);
      const learningRate = peak * multiplier;
      const pass = distillation.pass(texts, phase === 'fit' ? 'blocks' : 'network');
      // The next texts are read and tokenized while the backend computes.
      const [result] = await Promise.all([trainer.step([pass], 1, learningRate, balance * multiplier), stream.prefetch()]);
      await centering.follow();
      progress.step++;
      const advice = `try a lower ${phase === 'fit' ? '--fit-learning-rate' : '--learning-rate'}`;
      checkFinite(result, { step: progress.step, learningRate, advice, saved: { step: savedStep, out: session.out } });
      progress[phase === 'fit' ? 'fitted' : 'trained'] += texts.ids.length;
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
      const report = { ...(await agreement()), fitted, trained, seconds: clock.seconds };
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

/** Means go with the biases that were trained around them. */
function saveProgress(
  out: string,
  optimizer: AdamW,
  { texts, means, progress }: { texts: TextState; means: Centering['means']; progress: ConversionProgress },
): Promise<void> {
  const { waiting, ...place } = texts;
  return saveState(out, optimizer, { records: { progress, texts: place, means }, integers: { 'texts.waiting': waiting } });
}

async function load(out: string, optimizer: AdamW, centering: Centering): Promise<{ progress: ConversionProgress; texts: TextState }> {
  const { records, integers } = await loadState(out, optimizer, {
    records: {
      progress: progressSchema,
      texts: v.object({ files: v.array(filePositionSchema), texts: countSchema, batches: countSchema }),
      means: v.pipe(
        v.array(v.nullable(v.array(v.number()))),
        v.check((means) => `${means.map((mean) => mean?.length)}` === `${centering.means.map((mean) => mean?.length)}`, 'other layers'),
      ),
    },
    integers: ['texts.waiting'],
  });
  const { progress } = records;
  optimizer.steps = progress.step;
  centering.means = records.means;
  return { progress, texts: { ...records.texts, waiting: integers['texts.waiting'] } };
}
