/** What a conversion works with: the model that is converted, the one it becomes, texts, and what trains. */
import { FailureError, InputError, overflow } from '../errors.ts';
import { checkVocabulary, encoderOf, loadModel, type Model, readPooler } from '../models/checkpoint.ts';
import { describeFeedforward } from '../models/config.ts';
import { configToJson, parseConfig } from '../models/config_json.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { loadTokenizer } from '../tokenizer/tokenizer_config.ts';
import type { MaskingOptions } from '../training/masking.ts';
import { startBranchesAlike } from '../training/optimizer.ts';
import { Trainer } from '../training/trainer.ts';
import { measureAgreement } from './agreement.ts';
import { answerTo } from './answers.ts';
import type { ConversionOptions, ConversionSession } from './convert.ts';
import { Distillation } from './distillation.ts';
import { blockMap, createStudent, measureTeacher, studentConfig } from './student.ts';
import { heldOutTexts, leastTokens, type TextOptions, type TextsOfOneLength } from './texts.ts';

const distillationAdamW = { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, clipNorm: 1 };
/** Tokens that the teacher is measured on. */
const measuredTokens = 16_384;

/** Opens the models and what trains them; what has to be disposed of goes to `open`. */
export async function prepareConversion(
  options: ConversionOptions,
  { device, onNotice, signal, ranks }: ConversionSession,
  open: Disposable[],
) {
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
    group: ranks?.group,
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
    ranks,
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
export interface Budgets {
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
  if (embedding.positionScale) trained.delete(embedding.positionScale);
  for (const parameter of model.parameters) parameter.frozen = !trained.has(parameter);
}
