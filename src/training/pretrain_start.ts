/** The tokenizer and the model that a pretraining starts from. */
import type { Device } from '../backend/device.ts';
import { InputError } from '../errors.ts';
import { readLines } from '../io/files.ts';
import { checkVocabulary, loadMaskedLanguageModel } from '../models/checkpoint.ts';
import { crammedBertConfig, feedforwardOf, type ModelConfig } from '../models/config.ts';
import { configToJson, parseConfig } from '../models/config_json.ts';
import { familyOf } from '../models/families/families.ts';
import type { MaskedLanguageModel } from '../models/masked_language_model.ts';
import { Tokenizer } from '../tokenizer/tokenizer.ts';
import { loadTokenizer } from '../tokenizer/tokenizer_config.ts';
import { trainWordPiece } from '../tokenizer/train_wordpiece.ts';
import type { PretrainOptions, PretrainSession } from './pretrain.ts';
import { tokenizerFile } from './run_folder.ts';

export function specialId(tokenizer: Tokenizer, key: 'maskId' | 'sepId', token: string, options: PretrainOptions): number {
  const id = tokenizer[key];
  if (id === undefined) throw new InputError(`${namedTokenizer(options)}: has no ${token} token, which pretraining needs`);
  return id;
}

const namedTokenizer = ({ model, tokenizer }: PretrainOptions) => (model ? tokenizerFile(model) : tokenizer);

/** The tokenizer of a new run: that of the model to go on from, the one named, or one trained on the corpus. */
export async function newTokenizer(options: PretrainOptions, session: PretrainSession): Promise<Tokenizer> {
  if (options.model) return await loadTokenizer(options.model, session.onNotice);
  if (options.tokenizer) return await Tokenizer.load(options.tokenizer);
  session.onNotice?.(`training a tokenizer of ${options.vocabulary} entries`);
  const { vocabulary: vocabularySize, normalizer } = options;
  const { onNotice, signal } = session;
  const json = await trainWordPiece(allLines(options.corpus), { vocabularySize, normalizer, onNotice, signal });
  return Tokenizer.fromJson(json, 'the tokenizer trained on the corpus');
}

async function* allLines(paths: readonly string[]): AsyncGenerator<string> {
  for (const path of paths) yield* readLines(path);
}

/**
 * Keeps crammedBERT's position factor at 1 / sqrt(hidden). It is one scalar of about 0.06 and AdamW moves it by a whole learning rate a
 * step: within a hundred small batches it is at 0, positions are gone, and the model stays a bag of words
 * (docs/decisions/25-position-factor-and-initial-weights.md).
 */
export function freezePositionScale(model: MaskedLanguageModel): void {
  const { positionScale } = model.encoder.embedding;
  if (positionScale) positionScale.frozen = true;
}

/** The model to go on from. @throws InputError if its texts stand between special tokens, or it does not take the run's sequences or the tokenizer's ids */
export async function startingModel(
  options: PretrainOptions,
  folder: string,
  tokenizer: Tokenizer,
  device: Device,
): Promise<MaskedLanguageModel> {
  const model = await loadMaskedLanguageModel(folder, device);
  const { family, maxPositionEmbeddings: positions } = model.config;
  try {
    if (familyOf(model.config).specialTokens)
      throw new InputError(
        `${folder}: is of the family '${family}', expected one of a family that is trained on texts without [CLS] and [SEP], as 'ufb pretrain' makes: its texts are packed so`,
      );
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

/** crammedBERT's weights start with deviation 0.02 at 768 wide; narrower or wider, what keeps a layer's output as large. */
const initialDeviation = (hidden: number) => 0.02 * Math.sqrt(768 / hidden);

/** The model's configuration, checked as one read from a file is. */
export function modelConfig(options: PretrainOptions, tokenizer: { vocabularySize: number; padId?: number }): ModelConfig {
  const { layers, hidden, heads, length } = options;
  const config = crammedBertConfig({
    vocabSize: tokenizer.vocabularySize,
    hiddenSize: hidden,
    numHiddenLayers: layers,
    numAttentionHeads: heads,
    maxPositionEmbeddings: length,
    padTokenId: tokenizer.padId ?? 0,
    feedforward: feedforwardOf(options.feedforward, options),
  });
  return parseConfig(configToJson({ ...config, initializerRange: initialDeviation(hidden) }), 'the model asked for');
}
