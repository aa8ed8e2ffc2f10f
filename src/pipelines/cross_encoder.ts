/** What sentence-transformers says of a classifier of texts or pairs, its CrossEncoder. */
import * as v from 'valibot';
import { joinPath } from '#platform';
import { readOptionalJson } from '../io/checked_json.ts';
import { type Prompts, readSentenceConfig, readTextSettings, type TextSettings } from './sentence_transformer.ts';
import { type Activation, activationOf } from './vector_modules.ts';

export interface CrossEncoderSettings extends TextSettings {
  /** What makes scores of logits, if the folder says so. */
  activation?: Activation;
  prompts?: Prompts;
}

const schema = v.looseObject({
  sentence_transformers: v.nullish(v.looseObject({ activation_fn: v.nullish(v.string()) })),
  sbert_ce_default_activation_function: v.nullish(v.string()),
});

/**
 * Reads what versions 2 to 6 write: the activation in config.json or, since 5.4, in config_sentence_transformers.json.
 * @throws InputError naming the file if one is damaged, or the activation is not supported
 */
export async function readCrossEncoder(folder: string): Promise<CrossEncoderSettings> {
  const { modelType, activation, prompts } = await readSentenceConfig(folder);
  const path = joinPath(folder, 'config.json');
  const config = await readOptionalJson(path, schema);
  const isOwn = modelType === 'CrossEncoder';
  const name = (isOwn && activation) || config?.sentence_transformers?.activation_fn || config?.sbert_ce_default_activation_function;
  const source = isOwn && activation ? joinPath(folder, 'config_sentence_transformers.json') : path;
  return {
    ...(await readTextSettings(folder)),
    activation: name ? activationOf(name, source) : undefined,
    prompts: isOwn ? prompts : undefined,
  };
}
