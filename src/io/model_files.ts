import * as v from 'valibot';
import { InputError } from '../errors.ts';

/** What a model folder holds. Weights too large for one file lie in several, which `weightsIndex` names. */
export const modelFiles = ['config.json', 'model.safetensors', 'tokenizer.json'] as const;
/** What belongs to a tokenizer.json; the last two are of before tokenizer_config.json said it all. */
export const tokenizerFiles = ['tokenizer_config.json', 'special_tokens_map.json', 'added_tokens.json'] as const;
export const weightsIndex = 'model.safetensors.index.json';
export const pickledWeights = 'pytorch_model.bin';

/** What a sentence-transformers folder has besides, and its folders of modules, each with a config.json. */
export const sentenceFiles: readonly string[] = ['modules.json', 'sentence_bert_config.json', 'config_sentence_transformers.json'];
export const sentenceModule = /^\d{1,2}_[A-Z]\w{0,30}$/;

export const weightsIndexSchema = v.object({ weight_map: v.record(v.string(), v.string()) });
/** Of modules.json. */
export const sentenceModulesSchema = v.array(v.object({ type: v.string(), path: v.string() }));

export function pickledError(model: string): InputError {
  return new InputError(
    `${model}: holds its weights in ${pickledWeights}, a format that can run code when it is opened, expected model.safetensors; convert it where you trust it: python -c "from transformers import AutoModel; AutoModel.from_pretrained('DIR').save_pretrained('DIR')"`,
  );
}
