import * as v from 'valibot';
import { errorCode, joinPath } from '#platform';
import { InputError } from '../errors.ts';
import { readJson } from '../io/files.ts';
import { sentenceModule, sentenceModulesSchema } from '../io/model_files.ts';

/** How token vectors become a sentence's, as the files of a sentence-transformers folder say it. */
export interface SentenceModules {
  pooling: 'mean' | 'cls' | 'max';
  normalize: boolean;
  /** Tokens of a text, special ones included. */
  maxLength?: number;
  /** Texts are to be lower-cased before the tokenizer has them, whatever that does by itself. */
  lowerCase: boolean;
}

/** A folder has three or four; each names files to be read. */
const mostModules = 16;
const pooling = v.looseObject({
  pooling_mode_cls_token: v.optional(v.boolean(), false),
  pooling_mode_mean_tokens: v.optional(v.boolean(), false),
  pooling_mode_max_tokens: v.optional(v.boolean(), false),
});
const prompts = v.looseObject({ default_prompt_name: v.nullish(v.string()) });
const transformer = v.looseObject({
  max_seq_length: v.nullish(v.pipe(v.number(), v.integer(), v.minValue(3), v.maxValue(2 ** 16))),
  do_lower_case: v.nullish(v.boolean()),
});

/**
 * Reads modules.json and the files that it names; undefined if the folder has none and so is no sentence-transformers folder.
 * @throws InputError naming the file if one is damaged or asks for what is not supported: modules beside Transformer, Pooling and
 *   Normalize, or another pooling than mean, first token or maximum.
 */
export async function readSentenceModules(folder: string): Promise<SentenceModules | undefined> {
  const path = joinPath(folder, 'modules.json');
  const list = await readOptional(path, sentenceModulesSchema);
  if (!list) return undefined;
  if (list.length > mostModules) throw new InputError(`${path}: lists ${list.length} modules, expected at most ${mostModules}`);
  let mode: SentenceModules['pooling'] | undefined;
  let normalize = false;
  for (const { type, path: place } of list) {
    const name = type.split('.').at(-1) as string;
    // A name in this folder, and nothing that leads out of it.
    if (place !== '' && !sentenceModule.test(place))
      throw new InputError(`${path}: module path ${JSON.stringify(place)}, expected a folder's name such as 1_Pooling`);
    if (name === 'Transformer') {
      if (place !== '') throw new InputError(`${path}: the Transformer lies in ${JSON.stringify(place)}, expected the folder itself`);
    } else if (name === 'Pooling') mode = await readPooling(joinPath(folder, place, 'config.json'));
    else if (name === 'Normalize') normalize = true;
    else throw new InputError(`${path}: module ${JSON.stringify(name)} is not supported, expected Transformer, Pooling and Normalize`);
  }
  if (!mode) throw new InputError(`${path}: has no Pooling module, expected one`);
  const prompt = (await readOptional(joinPath(folder, 'config_sentence_transformers.json'), prompts))?.default_prompt_name;
  if (prompt)
    throw new InputError(
      `${joinPath(folder, 'config_sentence_transformers.json')}: 'default_prompt_name' is ${JSON.stringify(prompt)}, expected none: prompts are not put before texts`,
    );
  const texts = await readOptional(joinPath(folder, 'sentence_bert_config.json'), transformer);
  return { pooling: mode, normalize, maxLength: texts?.max_seq_length ?? undefined, lowerCase: texts?.do_lower_case ?? false };
}

async function readPooling(path: string): Promise<SentenceModules['pooling']> {
  const json = await readJson(path);
  const config = check(json, pooling, path);
  const on = Object.entries(config).filter(([key, value]) => key.startsWith('pooling_mode_') && value === true);
  const known = { pooling_mode_cls_token: 'cls', pooling_mode_mean_tokens: 'mean', pooling_mode_max_tokens: 'max' } as const;
  const mode = on.length === 1 ? known[on[0][0] as keyof typeof known] : undefined;
  if (mode) return mode;
  const found = on.map(([key]) => key.replace('pooling_mode_', '')).join(' and ') || 'none';
  throw new InputError(`${path}: pools by ${found}, expected one of cls_token, mean_tokens and max_tokens`);
}

async function readOptional<Schema extends v.GenericSchema>(path: string, schema: Schema): Promise<v.InferOutput<Schema> | undefined> {
  let json: unknown;
  try {
    json = await readJson(path);
  } catch (error) {
    if (errorCode((error as Error).cause) === 'ENOENT') return undefined;
    throw error;
  }
  return check(json, schema, path);
}

function check<Schema extends v.GenericSchema>(json: unknown, schema: Schema, path: string): v.InferOutput<Schema> {
  const result = v.safeParse(schema, json);
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw new InputError(`${path}: '${v.getDotPath(issue) ?? 'the value'}' is not ${issue.expected}`);
}
