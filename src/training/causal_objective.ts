/** Predicting at each place of a text the next token, as GPT-2 is trained. */
import { createCausalLanguageModel, loadCausalLanguageModel } from '../models/checkpoint.ts';
import { feedforwardOf } from '../models/config.ts';
import { gptConfig } from '../models/families/gpt2.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { endOfTextToken, trainBytePairs } from '../tokenizer/train_bpe.ts';
import { drawNextTokenBatches, nextTokenBatches } from './batches.ts';
import { readPassages } from './documents.ts';
import type { Objective } from './objective.ts';
import { countPredicted } from './prediction_steps.ts';
import type { PretrainOptions } from './pretrain.ts';
import { checkedConfig, initialDeviation, openStartingModel, specialId } from './pretrain_start.ts';
import type { BulkTokenizer } from './sequences.ts';

export function causalObjective(options: PretrainOptions): Objective {
  const { length, batch, withinDocuments } = options;
  return {
    config: ({ vocabularySize: vocabSize, bosId: bosTokenId, eosId }) =>
      checkedConfig({
        ...gptConfig({
          vocabSize,
          bosTokenId,
          eosTokenIds: eosId === undefined ? undefined : [eosId],
          hiddenSize: options.hidden,
          numHiddenLayers: options.layers,
          numAttentionHeads: options.heads,
          maxPositionEmbeddings: length,
          feedforward: feedforwardOf(options.feedforward, options),
        }),
        initializerRange: initialDeviation(options.hidden),
      }),
    trainTokenizer: ({ signal }) => trainBytePairs(allPassages(options.corpus), { vocabularySize: options.vocabulary, signal }),
    checkTokenizer: (tokenizer) => void specialId(tokenizer, 'eosId', endOfTextToken, options),
    async start(folder, tokenizer, { device }) {
      const model =
        folder === undefined
          ? createCausalLanguageModel(this.config(tokenizer), device, options.seed)
          : await openStartingModel(folder, await loadCausalLanguageModel(folder, device), tokenizer, options, () => {});
      // What begins a document is what ends the one before.
      const begin = withinDocuments ? specialId(tokenizer, 'eosId', endOfTextToken, options) : undefined;
      return {
        model,
        packing: packingOf(tokenizer),
        // The last one is predicted, but nothing is predicted of it.
        drawn: length + 1,
        async next(stream, shape) {
          const { first, end } = shape.own ?? { first: 0, end: shape.count };
          const batches = await drawNextTokenBatches(stream, { ...shape, begin });
          return batches.map((each, i) => (first <= i && i < end ? each : { predicted: countPredicted(each.labels) }));
        },
        heldOut: (sequences) => nextTokenBatches(sequences, { batch, length, begin }),
      };
    },
  };
}

/** How texts of a model that writes are packed: whole passages, and what ends a text behind each. */
export const packingOf = (tokenizer: Tokenizer): BulkTokenizer => ({
  encodeIds: (text, loss) => tokenizer.encodeIds(text, loss),
  sepId: undefined,
  textEnd: tokenizer.eosId,
});

/** Texts as they are packed. */
export async function* allPassages(paths: readonly string[], onNotice?: (line: string) => void): AsyncGenerator<string> {
  for (const path of paths) for await (const { paragraphs } of readPassages(path, onNotice)) yield paragraphs.join('\n');
}
