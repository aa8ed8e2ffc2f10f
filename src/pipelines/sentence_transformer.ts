/** What the files of a sentence-transformers folder say, as its versions 2 to 6 write them. */
import * as v from 'valibot';
import { joinPath } from '#platform';
import { InputError, quoted } from '../errors.ts';
import { readCheckedJson, readOptionalJson } from '../io/checked_json.ts';
import { textSettingsFiles } from '../io/model_files.ts';
import { classOf, readModules, transformerFolder } from '../io/sentence_folder.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { type Pooling, type Poolings, poolings } from './pooling.ts';
import { activationOf, denseSchema, isOfTokens, normalizeSchema, type VectorModule } from './vector_modules.ts';

/** How texts are read: sentence_bert_config.json, or the first of its siblings. */
export interface TextSettings {
  /** Tokens of a text, special ones included. */
  maxLength?: number;
  /** Texts are to be lower-cased, whatever the tokenizer does by itself. */
  lowerCase: boolean;
  /** What counts before tokenizer_config.json. */
  tokenizerConfig?: Readonly<Record<string, unknown>>;
  /** What counts before config.json. */
  modelConfig?: Readonly<Record<string, unknown>>;
}

/** What is put before texts. */
export interface Prompts {
  /** By their names; 'query' and 'document' are empty unless the model says otherwise. */
  named: Readonly<Record<string, string>>;
  /** The one that is taken unless another is asked for. */
  standard: string | undefined;
}

/** How token vectors become a sentence's. */
export interface SentenceModules extends TextSettings {
  pooling: Poolings;
  /** A prompt's tokens are not pooled. */
  skipPrompt: boolean;
  /** What is done to the tokens' vectors before they are pooled, in this order. */
  tokenModules: readonly VectorModule[];
  /** What is done to the pooled vector, in this order. */
  modules: readonly VectorModule[];
  /** Numbers of the vector that are kept; by default all. */
  dimensions?: number;
  prompts: Prompts;
}

/** What config_sentence_transformers.json says. */
export interface SentenceConfig {
  /** SentenceTransformer, CrossEncoder or another; files of before version 5 do not say. */
  modelType?: string;
  prompts: Prompts;
  dimensions?: number;
  /** The dotted name of a class of Python, for a cross-encoder's scores. */
  activation?: string;
}

const flags: Record<string, Pooling> = {
  pooling_mode_cls_token: 'cls',
  pooling_mode_max_tokens: 'max',
  pooling_mode_mean_tokens: 'mean',
  pooling_mode_mean_sqrt_len_tokens: 'mean_sqrt_len_tokens',
  pooling_mode_weightedmean_tokens: 'weightedmean',
  pooling_mode_lasttoken: 'lasttoken',
};
const mode = v.picklist(poolings);
const poolingSchema = v.looseObject({
  pooling_mode: v.nullish(v.union([mode, v.pipe(v.array(mode), v.minLength(1))], `one of ${poolings.join(', ')}, or a list of them`)),
  include_prompt: v.nullish(v.boolean(), true),
});
const configSchema = v.looseObject({
  model_type: v.nullish(v.string()),
  prompts: v.nullish(v.record(v.string(), v.nullable(v.string())), {}),
  default_prompt_name: v.nullish(v.string()),
  truncate_dim: v.nullish(v.pipe(v.number(), v.integer(), v.minValue(1))),
  activation_fn: v.nullish(v.string()),
});
const length = v.nullish(v.pipe(v.number(), v.integer(), v.minValue(1)));
const processor = v.nullish(v.looseObject({ model_max_length: length }));
const others = v.nullish(v.looseObject({}));
const called = v.nullish(v.looseObject({ max_length: length }));
const transformerSchema = v.looseObject({
  max_seq_length: length,
  do_lower_case: v.nullish(v.boolean()),
  processor_kwargs: processor,
  tokenizer_args: processor,
  config_kwargs: others,
  config_args: others,
  processing_kwargs: v.nullish(v.looseObject({ text: called })),
  modality_config: v.nullish(
    v.looseObject({ text: v.nullish(v.looseObject({ method: v.optional(v.unknown()), method_output_name: v.optional(v.unknown()) })) }),
  ),
});

/**
 * Reads modules.json and the files that it names; undefined if the folder has none, or they are of a model that is not to make vectors of
 * sentences, a cross-encoder say.
 * @throws InputError naming the file if one is damaged or asks for what is not supported: modules beside Transformer, Pooling, Dense, LayerNorm,
 *   Normalize and Dropout.
 */
export async function readSentenceModules(folder: string): Promise<SentenceModules | undefined> {
  const path = joinPath(folder, 'modules.json');
  const list = await readModules(folder);
  const config = list && (await readSentenceConfig(folder));
  if (!list || (config?.modelType ?? 'SentenceTransformer') !== 'SentenceTransformer') return undefined;
  let pooling: { pooling: Poolings; skipPrompt: boolean } | undefined;
  // Each Pooling begins anew, with the tokens' vectors as they are by then.
  let tokenModules: readonly VectorModule[] = [];
  let modules: VectorModule[] = [];
  const ofTokens: VectorModule[] = [];
  for (const [index, module] of list.entries()) {
    const [name, own] = [classOf(module), joinPath(folder, module.path)];
    const source = joinPath(own, 'config.json');
    if (!module.type.startsWith('sentence_transformers.'))
      throw new InputError(
        `${path}: module ${quoted(module.type)} is code of the model's own, which is not run; expected modules of sentence_transformers`,
      );
    if (name === 'Transformer' ? index > 0 : index === 0)
      throw new InputError(`${path}: module ${index} is ${quoted(name)}, expected Transformer in the first place, and there alone`);
    if (name === 'Pooling') {
      pooling = await readPooling(source);
      [tokenModules, modules] = [[...ofTokens], []];
    } else if (name === 'Normalize') {
      const isTokens = isOfTokens((await readOptionalJson(source, normalizeSchema)) ?? {}, source);
      (isTokens ? ofTokens : modules).push({ kind: 'normalize' });
    } else if (name === 'Dense' || name === 'LayerNorm') {
      const { isTokens, read } =
        name === 'Dense' ? await readDense(own) : { isTokens: false, read: { kind: 'layerNorm' as const, folder: own } };
      if (!isTokens && !pooling)
        throw new InputError(`${path}: module ${quoted(name)} comes before Pooling, and changes what that gives: expected it behind`);
      (isTokens ? ofTokens : modules).push(read);
    }
    // In use it does nothing.
    else if (name !== 'Dropout' && name !== 'Transformer')
      throw new InputError(
        `${path}: module ${quoted(name)} is not supported, expected Transformer, Pooling, Dense, LayerNorm, Normalize and Dropout`,
      );
  }
  if (!pooling) throw new InputError(`${path}: has no Pooling module, expected one`);
  const { prompts, dimensions } = config as SentenceConfig;
  return { ...pooling, tokenModules, modules, dimensions, prompts, ...(await readTextSettings(await transformerFolder(folder))) };
}

/** What config_sentence_transformers.json says; as if it were empty where there is none. @throws InputError if it is damaged */
export async function readSentenceConfig(folder: string): Promise<SentenceConfig> {
  const path = joinPath(folder, 'config_sentence_transformers.json');
  const config = (await readOptionalJson(path, configSchema)) ?? { prompts: {} };
  const { model_type: modelType, default_prompt_name: standardName, truncate_dim: dimensions, activation_fn: activation } = config;
  const named: Record<string, string> = { query: '', document: '' };
  for (const [name, prompt] of Object.entries(config.prompts)) named[name] = prompt ?? '';
  const standard = standardName ?? undefined;
  if (standard !== undefined && !Object.hasOwn(named, standard))
    throw new InputError(`${path}: 'default_prompt_name' is ${quoted(standard)}, expected one of ${Object.keys(named).join(', ')}`);
  return {
    modelType: modelType ?? undefined,
    prompts: { named, standard: standard === undefined ? undefined : named[standard] },
    dimensions: dimensions ?? undefined,
    activation: activation ?? undefined,
  };
}

/** What sentence_bert_config.json says, or the first of its siblings that says anything. @throws InputError if it is damaged */
export async function readTextSettings(folder: string): Promise<TextSettings> {
  for (const name of textSettingsFiles) {
    const path = joinPath(folder, name);
    const texts = await readOptionalJson(path, transformerSchema);
    if (!texts || Object.keys(texts).length === 0) continue;
    checkOutput(texts, path);
    const tokenizerConfig = texts.processor_kwargs ?? texts.tokenizer_args ?? undefined;
    return {
      maxLength: texts.processing_kwargs?.text?.max_length ?? tokenizerConfig?.model_max_length ?? texts.max_seq_length ?? undefined,
      lowerCase: texts.do_lower_case ?? false,
      tokenizerConfig,
      modelConfig: texts.config_kwargs ?? texts.config_args ?? undefined,
    };
  }
  return { lowerCase: false };
}

/** @throws InputError if the Transformer gives something else than its last layer's vectors, or a classifier's logits */
function checkOutput({ modality_config: modality }: v.InferOutput<typeof transformerSchema>, path: string): void {
  const text = modality?.text;
  if (!text) return;
  const { method, method_output_name: output } = text;
  const known = [output].flat().join('.');
  if (method === 'forward' && (known === 'last_hidden_state' || known === 'logits')) return;
  throw new InputError(
    `${path}: 'modality_config' takes ${quoted(output)} of ${quoted(method)}, expected "last_hidden_state" or "logits" of "forward"`,
  );
}

/**
 * Tokens of a text that are used: what sentence_bert_config.json says, else what tokenizer_config.json says, and no more than the model has
 * positions for.
 */
export function textLength(
  settings: TextSettings | undefined,
  tokenizer: { maxLength?: number },
  model: { maxPositionEmbeddings: number },
): number {
  return Math.min(settings?.maxLength ?? tokenizer.maxLength ?? Number.POSITIVE_INFINITY, model.maxPositionEmbeddings);
}

/** @throws InputError naming the folder if {@link textLength} does not even hold the special tokens */
export function checkTextLength(
  folder: string,
  settings: TextSettings | undefined,
  tokenizer: Tokenizer,
  model: { maxPositionEmbeddings: number },
): void {
  const [length, special] = [textLength(settings, tokenizer, model), tokenizer.encode('').ids.length];
  if (length < special)
    throw new InputError(
      `${folder}: a text is cut to ${length} tokens (by max_seq_length in sentence_bert_config.json, model_max_length in tokenizer_config.json or the positions of config.json), expected at least ${special}, which the special tokens alone are`,
    );
}

/** Which prompt a call asks for. */
export interface PromptOptions {
  /** What is put before each text. */
  prompt?: string;
  /** The same by its name in the model's config_sentence_transformers.json: 'query', 'document' and others. */
  prompt_name?: string;
}

/** The text that is put before others. @throws InputError if the model has no prompt of that name, or both are given */
export function promptOf({ prompt, prompt_name: name }: PromptOptions, prompts: Prompts | undefined): string {
  if (prompt !== undefined && typeof prompt !== 'string') throw new InputError(`prompt: got ${typeof prompt}, expected a string`);
  if (name === undefined) return prompt ?? prompts?.standard ?? '';
  if (prompt !== undefined) throw new InputError('prompt and prompt_name are both given, expected one of them');
  const named = prompts?.named ?? {};
  if (typeof name === 'string' && Object.hasOwn(named, name)) return named[name];
  const known = Object.keys(named);
  throw new InputError(
    `prompt_name: got ${quoted(name)}, expected ${known.length > 0 ? `one of the model's, ${known.join(', ')}` : 'none, for the model names no prompts: give one by prompt'}`,
  );
}

async function readPooling(path: string): Promise<{ pooling: Poolings; skipPrompt: boolean }> {
  const json = await readCheckedJson(path, poolingSchema);
  const skipPrompt = json.include_prompt === false;
  if (json.pooling_mode) return { pooling: json.pooling_mode, skipPrompt };
  const on = Object.keys(flags).filter((key) => json[key] === true);
  const other = Object.keys(json).find((key) => key.startsWith('pooling_mode_') && json[key] === true && !Object.hasOwn(flags, key));
  if (other !== undefined) throw new InputError(`${path}: pools by ${quoted(other)}, expected one of ${Object.keys(flags).join(', ')}`);
  if (on.length === 0) return { pooling: 'mean', skipPrompt };
  return { pooling: on.length === 1 ? flags[on[0]] : on.map((key) => flags[key]), skipPrompt };
}

async function readDense(folder: string): Promise<{ isTokens: boolean; read: VectorModule }> {
  const path = joinPath(folder, 'config.json');
  const json = await readCheckedJson(path, denseSchema);
  const { in_features, out_features, bias, use_residual, activation_function } = json;
  const activation = (activation_function && activationOf(activation_function, path)) || 'Tanh';
  return {
    isTokens: isOfTokens(json, path),
    read: { kind: 'dense', folder, inputs: in_features, outputs: out_features, bias, residual: use_residual, activation },
  };
}
