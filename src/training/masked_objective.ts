/** Predicting tokens that are masked, as crammedBERT is trained (arXiv 2212.14034). */
import { InputError } from '../errors.ts';
import { readLines } from '../io/files.ts';
import { createMaskedLanguageModel, loadMaskedLanguageModel } from '../models/checkpoint.ts';
import { crammedBertConfig, feedforwardOf } from '../models/config.ts';
import { familyOf } from '../models/families/families.ts';
import type { MaskedLanguageModel } from '../models/masked_language_model.ts';
import { trainWordPiece } from '../tokenizer/train_wordpiece.ts';
import { evaluationBatches, nextBatches, possibleCuts } from './batches.ts';
import { maskingCounts } from './masking.ts';
import type { Objective } from './objective.ts';
import type { PretrainOptions } from './pretrain.ts';
import { checkedConfig, initialDeviation, openStartingModel, specialId } from './pretrain_start.ts';

export function maskedObjective(options: PretrainOptions): Objective {
  const { length, seed } = options;
  return {
    config: ({ vocabularySize: vocabSize, padId: padTokenId = 0 }) =>
      checkedConfig({
        ...crammedBertConfig({
          vocabSize,
          hiddenSize: options.hidden,
          numHiddenLayers: options.layers,
          numAttentionHeads: options.heads,
          maxPositionEmbeddings: length,
          padTokenId,
          feedforward: feedforwardOf(options.feedforward, options),
        }),
        initializerRange: initialDeviation(options.hidden),
      }),
    trainTokenizer: ({ onNotice, signal }) => {
      const { vocabulary: vocabularySize, normalizer } = options;
      return trainWordPiece(allLines(options.corpus), { vocabularySize, normalizer, onNotice, signal });
    },
    checkTokenizer(tokenizer) {
      specialId(tokenizer, 'maskId', '[MASK]', options);
      specialId(tokenizer, 'sepId', '[SEP]', options);
    },
    async start(folder, tokenizer, { device, onNotice }) {
      const model =
        folder === undefined
          ? createMaskedLanguageModel(this.config(tokenizer), device, seed)
          : await openStartingModel(folder, await loadMaskedLanguageModel(folder, device), tokenizer, options, checkPacking);
      try {
        const { mlmProbability: share } = model.config;
        const masking = { maskId: specialId(tokenizer, 'maskId', '[MASK]', options), vocabularySize: tokenizer.vocabularySize, share };
        if (maskingCounts(length, share).predicted === 0)
          throw new InputError(`--length ${length} is too short: ${100 * share} % of a sequence are predicted, and that is no token`);
        if (options.variedShare && possibleCuts(length).length === 1)
          onNotice?.(`--length ${length} cannot be halved: what varies is only how much of a sequence is predicted`);
        freezePositionScale(model);
        return {
          model,
          packing: tokenizer,
          drawn: length,
          next: (stream, shape) => nextBatches(stream, shape, seed, masking, shape.own ?? { first: 0, end: shape.count }),
          heldOut: (sequences) => evaluationBatches(sequences, { batch: options.batch, length }, seed, masking),
        };
      } catch (error) {
        model.dispose();
        throw error;
      }
    },
  };
}

async function* allLines(paths: readonly string[]): AsyncGenerator<string> {
  for (const path of paths) yield* readLines(path);
}

function checkPacking(folder: string, { config }: MaskedLanguageModel): void {
  if (familyOf(config).specialTokens)
    throw new InputError(
      `${folder}: is of the family '${config.family}', expected one of a family that is trained on texts without [CLS] and [SEP], as 'ufb pretrain' makes: its texts are packed so`,
    );
}

/**
 * Keeps crammedBERT's position factor at 1 / sqrt(hidden). It is one scalar of about 0.06 and AdamW moves it by a whole learning rate a
 * step: within a hundred small batches it is at 0, positions are gone, and the model stays a bag of words
 * (docs/decisions/25-position-factor-and-initial-weights.md).
 */
function freezePositionScale(model: MaskedLanguageModel): void {
  const { positionScale } = model.encoder.embedding;
  if (positionScale) positionScale.frozen = true;
}
