import { joinPath } from '#platform';
import { checkArgument, checkOptions, type Kind, kinds } from '../arguments.ts';
import type { Device } from '../backend/device.ts';
import { type Precision, precisions } from '../backend/prepared_weight.ts';
import { InputError, memoryError } from '../errors.ts';
import { writeFileAtomic } from '../io/files.ts';
import { type TensorToWrite, writeSafetensors } from '../io/safetensors_writer.ts';
import type { NamedArray, Parameter, ParameterLayout } from '../nn/parameter.ts';
import { parameterTensors } from '../nn/parameter_arrays.ts';
import { saveTokenizer } from '../tokenizer/save_tokenizer.ts';
import { CausalLanguageModel } from './causal_language_model.ts';
import type { ModelConfig, Task } from './config.ts';
import { checkConfig, configToJson } from './config_json.ts';
import { Encoder } from './encoder.ts';
import { familyOf, modelNames, withoutPrefix } from './families/families.ts';
import type { ModelNames } from './families/family.ts';
import { MaskedLanguageModel } from './masked_language_model.ts';
import { ParameterFactory } from './parameter_factory.ts';
import { SequenceClassifier } from './sequence_classifier.ts';
import { Checkpoint, normFactors, openCheckpoint } from './stored_checkpoint.ts';

/** A model of an encoder. */
export type Model = MaskedLanguageModel | SequenceClassifier | Encoder;
/** A model of any kind that a checkpoint holds. */
type StoredModel = Model | CausalLanguageModel;

export const encoderOf = (model: Model): Encoder => (model.task === 'encoder' ? model : model.encoder);

/** A masked language model with crammedBERT's initial weights: normal, the norms 1, the biases 0. The same seed gives the same weights. */
export function createMaskedLanguageModel(config: ModelConfig, device: Device, seed: number): MaskedLanguageModel {
  return create(MaskedLanguageModel, config, device, seed);
}

/** A classifier (`config.labels` outputs) with initial weights as {@link createMaskedLanguageModel}'s. */
export function createSequenceClassifier(config: ModelConfig, device: Device, seed: number): SequenceClassifier {
  return create(SequenceClassifier, config, device, seed);
}

/** A decoder with its head, with GPT-2's initial weights: as those, but smaller where blocks join the stream. */
export function createCausalLanguageModel(config: ModelConfig, device: Device, seed: number): CausalLanguageModel {
  return create(CausalLanguageModel, config, device, seed);
}

/** A model of any kind with initial weights as {@link createMaskedLanguageModel}'s. */
export function createModel(task: Model['task'], config: ModelConfig, device: Device, seed: number): Model {
  const classes = { 'masked-lm': MaskedLanguageModel, 'sequence-classification': SequenceClassifier, encoder: Encoder };
  return create<Model>(classes[task], config, device, seed);
}

function create<M>(Class: new (config: ModelConfig, factory: ParameterFactory) => M, config: ModelConfig, device: Device, seed: number): M {
  checkArgument('device', device, kinds.device);
  checkConfig(config);
  const isDecoder = (Class as unknown) === CausalLanguageModel;
  if ((familyOf(config).decoder !== undefined) !== isDecoder)
    throw new InputError(`the configuration: 'family' is '${config.family}', expected one of ${isDecoder ? 'decoders' : 'encoders'}`);
  const factory = new ParameterFactory(device);
  try {
    const model = new Class(config, factory);
    for (const parameter of factory.parameters) factory.initialize(parameter, seed);
    return model;
  } catch (error) {
    factory.dispose();
    throw error;
  }
}

export interface LoadOptions {
  /**
   * For inference only: weights are packed for the device's products in this {@link Precision}, one by one as they are read, and their
   * trainable form is not kept. Absent: the model can be trained and saved.
   */
  dtype?: Precision;
  /** Is told, in one line, of tensors that are left out. */
  notice?: (message: string) => void;
  /** What counts before config.json, by the same names. */
  config?: Readonly<Record<string, unknown>>;
}

/**
 * The model in a checkpoint folder (config.json, model.safetensors), of the kind that its tensors make it; where they hold a head for
 * something that is not supported, classes of tokens say, the encoder.
 * @throws InputError naming file and key if the files are missing, damaged, not supported, or do not fit each other.
 */
export async function loadModel(folder: string, device: Device, options: LoadOptions = {}): Promise<Model> {
  checkLoading(folder, device, options);
  await using checkpoint = await openCheckpoint(folder, options.config);
  const task = taskOf(checkpoint);
  if (task === 'sequence-classification') return await loadClassifier(checkpoint, device, options);
  return await load<Model>(task === 'encoder' ? Encoder : MaskedLanguageModel, checkpoint, device, options);
}

/** What the model in a checkpoint folder is for: a decoder writes, others as {@link loadModel} has it. @throws InputError as that */
export async function readTask(folder: string): Promise<Task> {
  await using checkpoint = await openCheckpoint(folder, undefined, 'any');
  return checkpoint.family.decoder ? 'causal-lm' : taskOf(checkpoint);
}

function taskOf(checkpoint: Checkpoint): Task {
  const { file, names, remarks } = checkpoint;
  if (file.has(`${names.classifier}.weight`) && !remarks.otherHead) return 'sequence-classification';
  return names.decoderBias && checkpoint.locate(names.decoderBias) === undefined ? 'encoder' : 'masked-lm';
}

/** The encoder in a checkpoint folder, whatever head it may have. @throws InputError as {@link loadModel} */
export async function loadEncoder(folder: string, device: Device, options: LoadOptions = {}): Promise<Encoder> {
  await using checkpoint = await openCheckpoint(folder, options.config);
  return await load(Encoder, checkpoint, device, options);
}

/** As {@link loadModel}, for a folder that must hold a masked language model. */
export async function loadMaskedLanguageModel(folder: string, device: Device, options: LoadOptions = {}): Promise<MaskedLanguageModel> {
  checkLoading(folder, device, options);
  await using checkpoint = await openCheckpoint(folder, options.config);
  return await load(MaskedLanguageModel, checkpoint, device, options);
}

/** The decoder with its head in a checkpoint folder, GPT-2's say. @throws InputError as {@link loadModel}, and if it is an encoder's */
export async function loadCausalLanguageModel(folder: string, device: Device, options: LoadOptions = {}): Promise<CausalLanguageModel> {
  checkLoading(folder, device, options);
  await using checkpoint = await openCheckpoint(folder, options.config, 'decoder');
  return await load(CausalLanguageModel, checkpoint, device, options);
}

/**
 * As {@link loadModel}, for a folder that must hold a classifier. With `fresh` it may start from a masked language model: pooler and head, where the checkpoint has none, get initial
 * weights from its seed.
 */
export async function loadSequenceClassifier(
  folder: string,
  device: Device,
  options: LoadOptions & { fresh?: { labels: number; labelNames?: string[]; seed: number } } = {},
): Promise<SequenceClassifier> {
  checkLoading(folder, device, options);
  await using checkpoint = await openCheckpoint(folder, options.config);
  return await loadClassifier(checkpoint, device, options, options.fresh);
}

function checkLoading(folder: string, device: Device, options: LoadOptions): void {
  checkArgument('folder', folder, kinds.text);
  checkArgument('device', device, kinds.device);
  const dtype: Kind = { expected: `one of ${precisions.join(', ')}`, holds: (value) => precisions.includes(value as Precision) };
  checkOptions(options, { dtype, notice: kinds.callback, config: kinds.object });
}

/**
 * Writes model.safetensors, tokenizer.json with its tokenizer_config.json, and config.json, each aside and then renamed, the weights first: what they are refused for leaves
 * the folder as it was. The names are those of the family's published checkpoints.
 * @param options.tokenizer a Tokenizer, or the content of a tokenizer.json, parsed; absent: the folder's is left as it is
 * @param options.dtype of all tensors but single numbers, which are F32; F32 by default
 * @param options.rest tensors that the model itself does not have, `readPooler`'s, named without the encoder's prefix
 * @throws InputError if the model was loaded with a dtype, a weight is larger than F16 holds, or the folder cannot be written
 */
export async function saveCheckpoint(
  folder: string,
  model: StoredModel,
  options: { tokenizer?: unknown; dtype?: 'F32' | 'BF16' | 'F16'; rest?: readonly NamedArray[] } = {},
): Promise<void> {
  checkArgument('folder', folder, kinds.text);
  checkArgument('model', model, { expected: 'a model, as loadModel gives it', holds: isModel });
  checkOptions(options, { tokenizer: kinds.any, dtype: savedType, rest: kinds.list });
  const { tokenizer, dtype = 'F32', rest = [] } = options;
  const config = await storedConfig(model);
  checkConfig(config);
  const { feedforward } = config;
  const stored = model.parameters.filter(({ layout }) => !layout.absentIfZero || (feedforward.kind === 'fff' && feedforward.thresholds));
  const tensors: TensorToWrite[] = stored.flatMap((parameter) =>
    parameterTensors(parameter).map(({ name, shape, values }) => ({
      name: savedName(name, model),
      // A scalar costs nothing, and one that training leaves alone has to be the same when it goes on. A threshold that is rounded sends tokens elsewhere.
      dtype: parameter.buffer || (shape.length === 1 && shape[0] === 1) ? 'F32' : dtype,
      shape,
      values,
    })),
  );
  for (const { name, value } of normFactors(config)) tensors.push({ name, dtype: 'F32', shape: [], values: Float32Array.of(value) });
  for (const { shape, values } of tiedDecoder(model)) tensors.push({ name: `${modelNames(config).decoder}.weight`, dtype, shape, values });
  for (const { name, shape, values } of untiedBias(model)) tensors.push({ name, dtype, shape, values });
  const ofFamily = familyOf(config).prefix;
  const prefix = tensors.some(({ name }) => name.startsWith(ofFamily)) ? ofFamily : '';
  // What is no part of a head of its family is known of an encoder alone.
  const takesRest = model.task === 'encoder' || familyOf(config).names('').pooler === 'pooler.dense';
  for (const { name, shape, values } of takesRest ? rest : []) tensors.push({ name: `${prefix}${name}`, dtype, shape, values });
  tensors.sort((a, b) => (a.name < b.name ? -1 : 1));
  await writeSafetensors(joinPath(folder, 'model.safetensors'), tensors, { format: 'pt' });
  if (tokenizer !== undefined) await saveTokenizer(folder, tokenizer, config);
  await writeJson(joinPath(folder, 'config.json'), configToJson(config, model.task));
}

const isModel = (value: unknown) =>
  [MaskedLanguageModel, SequenceClassifier, Encoder, CausalLanguageModel].some((Class) => value instanceof Class);
const savedType: Kind = { expected: "'F32', 'BF16' or 'F16'", holds: (value) => ['F32', 'BF16', 'F16'].includes(value as string) };

/** An untied decoder's bias a second time, under the name under which transformers looks for it. */
function untiedBias({ config, task, parameters }: StoredModel) {
  const names = modelNames(config);
  if (!config.untiedDecoder || task !== 'masked-lm' || names.decoderBias === `${names.decoder}.bias`) return [];
  const bias = parameters.find(({ layout }) => layout.tensors[0].name === names.decoderBias);
  return bias ? parameterTensors(bias).map((tensor) => ({ ...tensor, name: `${names.decoder}.bias` })) : [];
}

/** crammedBERT's checkpoints have the word embedding a second time, under the decoder's name; transformers leaves that copy out of BERT's. */
function tiedDecoder({ config, task, parameters }: StoredModel) {
  if (!familyOf(config).writesTiedDecoder || task !== 'masked-lm') return [];
  const word = parameters.find(({ layout }) => layout.tensors.some(({ name }) => name === `${modelNames(config).word}.weight`));
  return word ? parameterTensors(word) : [];
}

/** The configuration as it is written: it names routing thresholds where one of them is not 0, so that what was written of others stays as it was. */
async function storedConfig({ config, parameters }: StoredModel): Promise<ModelConfig> {
  const { feedforward } = config;
  if (feedforward.kind !== 'fff') return config;
  const thresholds = parameters.filter(({ layout }) => layout.absentIfZero);
  const values = await Promise.all(thresholds.map(({ value }) => value.device.read(value)));
  return { ...config, feedforward: { ...feedforward, thresholds: values.some((ofLayer) => ofLayer.some((value) => value !== 0)) } };
}

/** Hugging Face has 'bert.', say, before the encoder's names where there is a head; a model that started from an encoder by itself lacks it. */
function savedName(name: string, { config, task }: StoredModel): string {
  const { modelTypes, prefix, heads } = familyOf(config);
  const prefixed = config.family === modelTypes.dense && task !== 'encoder' && !name.startsWith(prefix) && !heads.test(name);
  return prefixed ? `${prefix}${name}` : name;
}

const writeJson = (path: string, value: unknown) => writeFileAtomic(path, `${JSON.stringify(value, undefined, 2)}\n`);

// ------------------------------------------------------------------ reading

/** @throws InputError if the tokenizer has tokens that the model in the same folder does not know; `tell`, if given, is told instead */
export function checkVocabulary(
  folder: string,
  tokenizer: { vocabularySize: number },
  { vocabSize: vocabularySize }: ModelConfig,
  tell = (message: string): void => {
    throw new InputError(message);
  },
): void {
  if (tokenizer.vocabularySize <= vocabularySize) return;
  tell(
    `${folder}: tokenizer.json has ${tokenizer.vocabularySize} tokens, but config.json gives the model ${vocabularySize}: they do not belong together`,
  );
}

/**
 * The head that a checkpoint has for classifying texts: its tensor's name and its outputs' number and, where config.json has some, names.
 * undefined without one. @throws InputError if it has one for something else: tokens, say
 */
export async function readTrainedHead(folder: string): Promise<{ tensor: string; outputs: number; labelNames?: string[] } | undefined> {
  await using checkpoint = await openCheckpoint(folder);
  const { head, config } = checkpoint;
  return head && { ...head, labelNames: config.labelNames };
}

/** The pooler that a checkpoint may have beside an encoder or a masked language model, which do not use it: a classifier made of it would. */
export async function readPooler(folder: string): Promise<NamedArray[]> {
  await using checkpoint = await openCheckpoint(folder);
  const { file, family } = checkpoint;
  const pooler: NamedArray[] = [];
  for (const stored of file.names) {
    const name = withoutPrefix(stored, family);
    if (!/^pooler\.dense\.(weight|bias)$/.test(name)) continue;
    pooler.push({ name, shape: file.info(stored).shape, values: await file.read(stored) });
  }
  return pooler;
}

type ModelClass<M> = new (config: ModelConfig, factory: ParameterFactory, names: ModelNames) => M;

async function load<M extends StoredModel>(
  Class: ModelClass<M>,
  checkpoint: Checkpoint,
  device: Device,
  { dtype, notice = () => {} }: LoadOptions,
  freshSeed?: number,
): Promise<M> {
  const { config, names } = checkpoint;
  const { feedforward } = config;
  const declaredUntied = config.untiedDecoder === true;
  if (([MaskedLanguageModel, CausalLanguageModel] as unknown[]).includes(Class)) await checkpoint.tieDecoder(notice);
  const isAbsent = ({ absentIfZero }: ParameterLayout) => absentIfZero && !(feedforward.kind === 'fff' && feedforward.thresholds);
  const isFresh = (layout: ParameterLayout) =>
    isAbsent(layout) ||
    (freshSeed !== undefined && isHead(layout, names) && !checkpoint.has(layout)) ||
    checkpoint.startsAtZero(layout, declaredUntied);
  const factory = new ParameterFactory(device, (layout) => {
    if (!isFresh(layout)) checkpoint.admit(layout);
  });
  try {
    const model = new Class(config, factory, names);
    const predicts = model.task === 'masked-lm' || model.task === 'causal-lm';
    if (predicts) await checkpoint.checkTied();
    await checkpoint.tellRest(predicts, notice);
    const prepare = (parameter: Parameter) => {
      if (dtype) parameter.prepare(dtype);
    };
    const stored = factory.parameters.filter(({ layout }) => !isFresh(layout));
    await checkpoint.read(stored, device, prepare);
    for (const parameter of factory.parameters) {
      if (!isFresh(parameter.layout)) continue;
      factory.initialize(parameter, freshSeed ?? 0);
      prepare(parameter);
    }
    return model;
  } catch (error) {
    factory.dispose();
    throw memoryError(error, checkpoint.file.source);
  }
}

function isHead(layout: ParameterLayout, { pooler, classifier }: ModelNames): boolean {
  return layout.tensors.every(({ name }) => name.startsWith(`${pooler}.`) || name.startsWith(`${classifier}.`));
}

function loadClassifier(
  checkpoint: Checkpoint,
  device: Device,
  options: LoadOptions,
  fresh?: { labels: number; labelNames?: string[]; seed: number },
): Promise<SequenceClassifier> {
  const { config, file, names } = checkpoint;
  const stored = checkpoint.head?.outputs;
  const lacksClassifier = () =>
    checkpoint.error(
      `lacks the tensor '${names.classifier}.weight': it holds no classifier of texts; make one of it with examples of yours: ufb finetune --model DIR --train FILE --out my-classifier`,
    );
  if (!fresh && stored === undefined) throw lacksClassifier();
  if (fresh && stored !== undefined && stored !== fresh.labels)
    throw checkpoint.error(
      `has a head of ${stored} outputs that was trained already, expected ${fresh.labels} or none: name the model from before it was fine-tuned`,
    );
  const labels = fresh?.labels ?? config.numLabels ?? stored;
  if (labels === undefined || labels < 1) throw lacksClassifier();
  // What transformers needs to read a new head as it was trained.
  const problemType = !fresh ? config.problemType : labels === 1 ? 'regression' : 'single_label_classification';
  // sentence-transformers would squash the one output that has no name.
  const scoreFunction = !fresh ? config.scoreFunction : labels === 1 ? 'torch.nn.modules.linear.Identity' : undefined;
  const labelNames = fresh ? fresh.labelNames : config.labelNames;
  const complete = new Checkpoint({ ...config, numLabels: labels, labelNames, problemType, scoreFunction }, file, checkpoint.remarks);
  return load(SequenceClassifier, complete, device, options, fresh?.seed);
}
