/** The tokenizer and the model that a pretraining starts from. */
import { InputError } from '../errors.ts';
import { checkVocabulary } from '../models/checkpoint.ts';
import type { ModelConfig } from '../models/config.ts';
import { configToJson, parseConfig } from '../models/config_json.ts';
import type { LanguageModel } from '../models/language_model.ts';
import { Tokenizer } from '../tokenizer/tokenizer.ts';
import { loadTokenizer } from '../tokenizer/tokenizer_config.ts';
import type { Objective } from './objective.ts';
import type { PretrainOptions, PretrainSession } from './pretrain.ts';
import { tokenizerFile } from './run_folder.ts';

/** @throws InputError naming the tokenizer if it lacks a `token` */
export function specialId(tokenizer: Tokenizer, key: 'maskId' | 'sepId' | 'eosId', token: string, options: PretrainOptions): number {
  const id = tokenizer[key];
  if (id === undefined) throw new InputError(`${namedTokenizer(options)}: has no ${token} token, which pretraining needs`);
  return id;
}

const namedTokenizer = ({ model, tokenizer }: PretrainOptions) => (model ? tokenizerFile(model) : tokenizer);

/** The tokenizer of a new run: that of the model to go on from, the one named, or one trained on the corpus. */
export async function newTokenizer(objective: Objective, options: PretrainOptions, session: PretrainSession): Promise<Tokenizer> {
  const { onNotice } = session;
  if (options.model) return await loadTokenizer(options.model, onNotice);
  if (options.tokenizer) return await Tokenizer.load(options.tokenizer);
  onNotice?.(`training a tokenizer of ${options.vocabulary} entries`);
  return Tokenizer.fromJson(await objective.trainTokenizer(session), 'the tokenizer trained on the corpus');
}

/** A model to go on from, if `check` and the run's options have nothing against it; otherwise it is disposed. @throws InputError */
export async function openStartingModel<M extends LanguageModel>(
  folder: string,
  model: M,
  tokenizer: Tokenizer,
  options: PretrainOptions,
  check: (folder: string, model: M) => void,
): Promise<M> {
  const { maxPositionEmbeddings: positions } = model.config;
  try {
    check(folder, model);
    if (options.length > positions)
      throw new InputError(
        `${folder}: the model takes at most ${positions} tokens, but sequences have ${options.length}: pass --length ${positions} or less`,
      );
    checkVocabulary(folder, tokenizer, model.config);
    return model;
  } catch (error) {
    model.dispose();
    throw error;
  }
}

/** crammedBERT's weights start with deviation 0.02 at 768 wide, as BERT's and GPT-2's do; narrower or wider, what keeps a layer's output as large. */
export const initialDeviation = (hidden: number) => 0.02 * Math.sqrt(768 / hidden);

/** The configuration of a new model, checked as one read from a file is. */
export const checkedConfig = (config: ModelConfig): ModelConfig => parseConfig(configToJson(config), 'the model asked for');
