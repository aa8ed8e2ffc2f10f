import * as v from 'valibot';
import { InputError } from '../errors.ts';

/** What a model folder holds. Weights too large for one file lie in several, which `weightsIndex` names. */
export const modelFiles = ['config.json', 'model.safetensors', 'tokenizer.json'] as const;
/** What belongs to a tokenizer.json; the last two are of before tokenizer_config.json said it all. */
export const tokenizerFiles = ['tokenizer_config.json', 'special_tokens_map.json', 'added_tokens.json'] as const;
/** What a model that writes has besides: how it writes by default, and its template for conversations. */
export const generationFiles = ['generation_config.json', 'chat_template.jinja'] as const;
export const weightsIndex = 'model.safetensors.index.json';
export const pickledWeights = 'pytorch_model.bin';

/** What the oldest folders of BERT have in place of tokenizer.json. */
export const vocabularyFile = 'vocab.txt';

/** Where sentence-transformers keeps how texts are read: the first of these that there is, and that says anything. */
export const textSettingsFiles: readonly string[] = ['bert', 'roberta', 'distilbert', 'camembert', 'albert', 'xlm-roberta', 'xlnet'].map(
  (name) => `sentence_${name}_config.json`,
);

/** What else a sentence-transformers folder has beside its modules'. */
export const sentenceFiles: readonly string[] = ['modules.json', textSettingsFiles[0], 'config_sentence_transformers.json'];

export const weightsIndexSchema = v.object({ weight_map: v.record(v.string(), v.string()) });

/** A path as a shell takes it for one word. */
const shellWord = (path: string) => `'${path.replaceAll("'", "'\\''")}'`;

/** `folder`: where the files are; absent where they are not here. */
export function pickledError(model: string, folder?: string): InputError {
  const advice = `python -c "import sys, torch, safetensors.torch as s; d = sys.argv[1]; t = torch.load(d + '/pytorch_model.bin', map_location='cpu', weights_only=True); s.save_file({k: v.clone().contiguous() for k, v in t.items()}, d + '/model.safetensors', {'format': 'pt'})" ${folder === undefined ? 'DIR' : shellWord(folder)}`;
  return new InputError(
    `${model}: holds its weights in ${pickledWeights}, a format that can run code when it is opened, expected model.safetensors; ${folder === undefined ? 'download it to a folder DIR, and write' : 'write'} that file beside it, which runs no code of the model's: ${advice}`,
  );
}
