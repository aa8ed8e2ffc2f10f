import { CallOptions, checkArgument, checkOptions, kinds, type OptionKinds } from '../arguments.ts';
import { createDevice, type DeviceName, deviceNames, deviceNotice } from '../backend/create.ts';
import type { Device } from '../backend/device.ts';
import { type Precision, precisions } from '../backend/prepared_weight.ts';
import { type DeviceLostError, InputError, printable, quoted } from '../errors.ts';
import { readChatTemplate } from '../generation/chat.ts';
import { readGenerationDefaults } from '../generation/settings.ts';
import type { HubOptions } from '../io/hub.ts';
import { resolveModelFolder } from '../io/model_folder.ts';
import { transformerFolder } from '../io/sentence_folder.ts';
import type { Batching } from '../models/batch_queue.ts';
import type { CausalLanguageModel } from '../models/causal_language_model.ts';
import {
  checkVocabulary,
  type LoadOptions,
  loadCausalLanguageModel,
  loadEncoder,
  loadMaskedLanguageModel,
  loadSequenceClassifier,
  type Model,
} from '../models/checkpoint.ts';
import type { Encoder } from '../models/encoder.ts';
import type { MaskedLanguageModel } from '../models/masked_language_model.ts';
import type { SequenceClassifier } from '../models/sequence_classifier.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { loadTokenizer } from '../tokenizer/tokenizer_config.ts';
import { chooseDevice } from './choose_device.ts';
import { type CrossEncoderSettings, readCrossEncoder } from './cross_encoder.ts';
import { FeatureExtractionPipeline } from './feature_extraction.ts';
import { FillMaskPipeline } from './fill_mask.ts';
import { PlacedModel } from './placed_model.ts';
import {
  checkTextLength,
  type PromptOptions,
  readSentenceModules,
  type SentenceModules,
  type TextSettings,
} from './sentence_transformer.ts';
import { TextClassificationPipeline } from './text_classification.ts';
import { TextGenerationPipeline } from './text_generation.ts';
import { TextRankingPipeline } from './text_ranking.ts';

export interface PipelineOptions extends HubOptions, PromptOptions {
  /**
   * What computes: a device of your own, which stays yours to dispose, or the name of one. By default ('cpu' says the same) native
   * code if it can be loaded, else WASM. 'webgpu' is the graphics processor (in Node with the package webgpu); if it is lost, the model is
   * loaded on it again, once, and then goes on in WASM. 'auto' takes it where there is one and the model is large enough to gain by it.
   */
  device?: Device | DeviceName | 'auto' | 'cpu';
  /** Threads of the device, if it is not handed in. */
  threads?: number;
  /** The {@link Precision} of products with weights: 'f32' by default; 'bf16' and 'i8' take less memory, and less time where the processor multiplies them. transformers.js's names are taken: fp32, q8; fp16 is computed in bf16. */
  dtype?: Precision | keyof typeof precisionNames;
  /** How texts of several calls are merged into batches: for servers, which know how much they can hold. */
  batching?: Batching;
  /**
   * Is told, in one line, of texts that were cut because they were too long, of tensors and files that are left out, of options that are not
   * known, and, once, why there is no native backend where none was named; by default the console is.
   */
  notice?: (message: string) => void;
}

const optionKinds: OptionKinds<PipelineOptions> = {
  device: {
    expected: `one of ${deviceNames.join(', ')}, or ${kinds.device.expected}`,
    // A name that is none is told with the others by createDevice.
    holds: (value) => typeof value === 'string' || kinds.device.holds(value),
  },
  threads: kinds.integer,
  dtype: kinds.any,
  batching: kinds.object,
  notice: kinds.callback,
  revision: kinds.text,
  hubUrl: kinds.text,
  accessToken: kinds.text,
  progress_callback: kinds.callback,
  signal: kinds.signal,
  prompt: kinds.text,
  prompt_name: kinds.text,
};

const countFrom1 = { expected: 'a whole number from 1', holds: (value: unknown) => Number.isSafeInteger(value) && (value as number) > 0 };
const batchingKinds: OptionKinds<Batching> = { max_tokens: countFrom1, max_texts: countFrom1, batch_callback: kinds.callback };

/** The pipeline of each task. */
export interface Pipelines {
  'fill-mask': FillMaskPipeline;
  'feature-extraction': FeatureExtractionPipeline;
  'text-classification': TextClassificationPipeline;
  'text-ranking': TextRankingPipeline;
  'text-generation': TextGenerationPipeline;
  /** Another name of 'text-classification'. */
  'sentiment-analysis': TextClassificationPipeline;
  /** Another name of 'feature-extraction'. */
  embeddings: FeatureExtractionPipeline;
}

/** What a task's pipeline is made of. */
interface Parts<M, Said> {
  model: M;
  tokenizer: Tokenizer;
  device: Device;
  folder: string;
  /** What {@link Task.read} gave. */
  said: Said;
  /** What is put before texts unless a call says otherwise. */
  prompt: PromptOptions;
  batching?: Batching;
  recover?: (error: DeviceLostError) => Promise<Device>;
  notice: (message: string) => void;
  release: () => void;
}

interface Task<M extends Model | CausalLanguageModel, P, Said extends TextSettings | undefined> {
  /** What sentence-transformers' files say, before the model is read. */
  read(folder: string): Promise<Said>;
  load(folder: string, device: Device, options: LoadOptions): Promise<M>;
  create(parts: Parts<M, Said>): P | Promise<P>;
}

/** @throws InputError if one is given */
function refusePrompts(prompt: PromptOptions, where: string): void {
  for (const [name, value] of Object.entries(prompt))
    if (value !== undefined) throw new InputError(`${name}: is put before texts that are embedded or classified, not where ${where}`);
}

const fillMask: Task<MaskedLanguageModel, FillMaskPipeline, undefined> = {
  read: async () => undefined,
  load: loadMaskedLanguageModel,
  create({ model, tokenizer, device, recover, batching, folder, prompt, notice, release }) {
    refusePrompts(prompt, 'blanks are filled');
    if (tokenizer.maskId === undefined) throw new InputError(`${folder}/tokenizer.json: has no mask token, which fill-mask needs`);
    return new FillMaskPipeline(model, tokenizer, { device, recover, batching, notice, release });
  },
};

const featureExtraction: Task<Encoder, FeatureExtractionPipeline, SentenceModules | undefined> = {
  read: readSentenceModules,
  load: loadEncoder,
  async create({ model, tokenizer, device, recover, batching, folder, said: modules, prompt, notice, release }) {
    checkTextLength(folder, modules, tokenizer, model.config);
    return await FeatureExtractionPipeline.open(model, tokenizer, { device, recover, batching, modules, prompt, notice, release });
  },
};

const textClassification: Task<SequenceClassifier, TextClassificationPipeline, CrossEncoderSettings> = {
  read: readCrossEncoder,
  load: (folder, device, options) => loadSequenceClassifier(folder, device, options),
  create({ model, tokenizer, device, recover, batching, folder, said: settings, prompt, notice, release }) {
    checkTextLength(folder, settings, tokenizer, model.config);
    return new TextClassificationPipeline(model, tokenizer, { device, recover, batching, settings, prompt, notice, release });
  },
};

const textRanking: Task<SequenceClassifier, TextRankingPipeline, CrossEncoderSettings> = {
  read: readCrossEncoder,
  load: textClassification.load,
  create({ model, tokenizer, device, recover, batching, folder, said, prompt, notice, release }) {
    // As CrossEncoder has it where nothing is said, whatever config.json calls the problem.
    const { activation = 'Sigmoid', ...others } = said;
    const settings = { ...others, activation };
    const classify = new TextClassificationPipeline(model, tokenizer, { device, recover, batching, settings, prompt, notice, release });
    return new TextRankingPipeline(classify, folder, notice);
  },
};

const textGeneration: Task<CausalLanguageModel, TextGenerationPipeline, undefined> = {
  read: async () => undefined,
  load: loadCausalLanguageModel,
  async create({ model, tokenizer, device, folder, prompt, notice, release }) {
    refusePrompts(prompt, 'text is written');
    const [defaults, template] = [await readGenerationDefaults(folder), await readChatTemplate(folder, tokenizer)];
    return new TextGenerationPipeline(model, tokenizer, { device, defaults, template, notice, release });
  },
};

const tasks = {
  'fill-mask': fillMask,
  'feature-extraction': featureExtraction,
  'text-classification': textClassification,
  'text-ranking': textRanking,
  'text-generation': textGeneration,
  'sentiment-analysis': textClassification,
  embeddings: featureExtraction,
};

/**
 * Text in, answers out, with the names and the shape of answers that transformers.js has.
 *
 * @param task 'fill-mask': the most probable words for each [MASK]. 'feature-extraction': vectors of texts, for search and comparison.
 *   'text-classification': the class of each text. 'text-ranking': documents by how well they answer a query, with a cross-encoder.
 *   'text-generation': what a decoder writes on from a text.
 * @param model a folder with config.json, model.safetensors and tokenizer.json (in a browser its address), or OWNER/NAME of a model on the
 *   Hugging Face hub, which is downloaded once; for 'fill-mask' by default the model that ships with this package. Other tasks need one.
 * @throws InputError, before anything is downloaded, if the task, `dtype`, `device` or `threads` is none there is; FailureError if a download
 *   fails; InputError if the folder is not a model's, one of its files is damaged or does not fit the others, or it is no model for the task.
 *
 * @example
 * using fill = await pipeline('fill-mask');
 * const [best] = await fill('The capital of France is [MASK].');
 * console.log(best.token_str, best.score);
 *
 * @example
 * using embed = await pipeline('feature-extraction', 'sentence-transformers/all-MiniLM-L6-v2');
 * const { data, dims } = await embed(['A cat sleeps.', 'A dog barks.']); // dims [2, 384]
 */
export async function pipeline<Name extends keyof Pipelines>(
  task: Name,
  model?: string,
  options: PipelineOptions = {},
): Promise<Pipelines[Name]> {
  if (!Object.hasOwn(tasks, task)) {
    throw new InputError(`task ${quoted(task)} is not known, expected one of ${Object.keys(tasks).join(', ')}`);
  }
  if (model === undefined && task !== 'fill-mask')
    throw new InputError(`${task}: no model is named, and the one that ships fills masks; ${models[task as keyof typeof models]}`);
  const { read, load, create } = tasks[task] as Task<Model | CausalLanguageModel, unknown, TextSettings | undefined>;
  const forSentences = task === 'feature-extraction' || task === 'embeddings';
  if (model !== undefined) checkArgument('model', model, kinds.text);
  checkOptions(options, optionKinds);
  const { batching } = options;
  if (batching) checkOptions(batching, batchingKinds);
  const notice = (message: string) => (options.notice ?? console.warn)(printable(message));
  const dtype = options.dtype === undefined ? 'f32' : precisionOf(options.dtype);
  new CallOptions('pipeline', optionKinds, notice).check(options);
  const given = typeof options.device === 'object' ? options.device : undefined;
  const name = deviceNameOf(options.device);
  const { threads } = options;
  // Which one 'auto' is depends on the model.
  let device = given ?? (options.device === 'auto' ? undefined : await createDevice({ name, threads }));
  let loaded: Model | CausalLanguageModel | undefined;
  let placed: PlacedModel<Model | CausalLanguageModel> | undefined;
  const release = () => {
    loaded?.dispose();
    if (placed) placed.dispose();
    else if (!given) device?.dispose();
  };
  try {
    const folder = await resolveModelFolder(model, { ...options, notice, forSentences });
    const own = forSentences ? await transformerFolder(folder) : folder;
    const said = await read(folder);
    const on = device ?? (await chooseDevice(own, { threads, config: said?.modelConfig }));
    device = on;
    if (!given && name === undefined && on.name !== 'webgpu') tellOfFallback(notice);
    const loadOn = (device: Device) => load(own, device, { dtype, notice, config: said?.modelConfig });
    // The weights are read and converted while the tokenizer is made.
    const [opened, tokenizer] = await Promise.allSettled([
      !given && on.name === 'webgpu' ? PlacedModel.open(on, loadOn, notice) : loadOn(on),
      loadTokenizer(own, notice, said?.tokenizerConfig),
    ]);
    if (opened.status === 'fulfilled') {
      if (opened.value instanceof PlacedModel) placed = opened.value;
      else loaded = opened.value;
    }
    if (tokenizer.status === 'rejected') throw tokenizer.reason;
    const ready = placed?.model ?? loaded;
    if (!ready) throw (opened as PromiseRejectedResult).reason;
    options.signal?.throwIfAborted();
    checkVocabulary(own, tokenizer.value, ready.config, notice);
    const prompt = { prompt: options.prompt, prompt_name: options.prompt_name };
    return (await create({
      model: ready,
      tokenizer: tokenizer.value,
      device: on,
      recover: placed && ((error) => (placed as PlacedModel<Model | CausalLanguageModel>).recover(error)),
      batching,
      folder,
      said,
      prompt,
      notice,
      release,
    })) as Pipelines[Name];
  } catch (error) {
    release();
    throw error;
  }
}

/** Says, once, why the native backend is not taken where nothing was asked for: it is the same for all pipelines of a process. */
function tellOfFallback(notice: (message: string) => void): void {
  const fallback = toldOfFallback ? undefined : deviceNotice();
  if (fallback) notice(fallback);
  toldOfFallback ||= fallback !== undefined;
}
let toldOfFallback = false;

/** Which models do for the tasks that the shipped one is not for. */
const models = {
  'feature-extraction': "name one of sentence-transformers, 'sentence-transformers/all-MiniLM-L6-v2' say",
  'text-classification': "name a folder that 'ufb finetune' made, or a classifier of the Hugging Face hub",
  'sentiment-analysis': "name a classifier of the Hugging Face hub, or a folder that 'ufb finetune' made",
  embeddings: "name one of sentence-transformers, 'sentence-transformers/all-MiniLM-L6-v2' say",
  'text-generation':
    "name a folder that 'ufb pretrain --objective causal' made, or a decoder of the Hugging Face hub, 'distilbert/distilgpt2' say",
  'text-ranking': "name a cross-encoder, 'cross-encoder/ms-marco-MiniLM-L6-v2' say",
};

/** What transformers.js calls precisions, and what they are here. */
const precisionNames = { fp32: 'f32', fp16: 'bf16', q8: 'i8', int8: 'i8', uint8: 'i8' } as const satisfies Record<string, Precision>;

function precisionOf(dtype: string): Precision {
  if (Object.hasOwn(precisionNames, dtype)) return precisionNames[dtype as keyof typeof precisionNames];
  if (precisions.includes(dtype as Precision)) return dtype as Precision;
  throw new InputError(`dtype: got ${quoted(dtype)}, expected one of ${precisions.join(', ')}`);
}

/** A device's name, if one was named; others are told by createDevice. */
function deviceNameOf(device: PipelineOptions['device']): DeviceName | undefined {
  return device === 'auto' || device === 'cpu' ? undefined : (device as DeviceName | undefined);
}
