/**
 * ELECTRA (arXiv 2003.10555), as transformers has it: BERT's layers behind embeddings of a size of their own, which are projected to the
 * hidden size. The generator predicts masked tokens; the discriminator is an encoder, or a classifier with a head of its own.
 */
import * as v from 'valibot';
import { hidden, validate } from './entries.ts';
import type { Family } from './family.ts';
import {
  bertEncoderNames,
  denseEntries,
  encoderEntries,
  fromEncoderEntries,
  modelTypeOf,
  readFeedforward,
  toEncoderEntries,
  treeEntries,
} from './hugging_face.ts';

const modelTypes = { dense: 'electra', trees: 'ultrafastelectra' } as const;
const defaults = { hiddenSize: 256, heads: 4, neurons: 1024 };
const entries = { ...encoderEntries(defaults), embedding_size: v.optional(hidden, 128) };
const dense = v.object({ ...entries, model_type: v.literal(modelTypes.dense), ...denseEntries(defaults) });
const trees = v.object({ ...entries, model_type: v.literal(modelTypes.trees), ...treeEntries });

export const electra: Family = {
  modelTypes,
  normPlacement: 'post',
  specialTokens: true,
  transformFollows: false,
  classifier: { activation: 'gelu', inputDropout: true },
  prefix: 'electra.',
  heads: /^(generator_predictions|generator_lm_head|discriminator_predictions|classifier)\./,
  maskedHead: /^generator_(predictions|lm_head)\./,
  unused: /^discriminator_predictions\.|embeddings\.(position_ids|token_type_ids)$/,
  writesTiedDecoder: false,
  names: (prefix) => ({
    ...bertEncoderNames(prefix),
    projection: `${prefix}embeddings_project`,
    transform: { dense: 'generator_predictions.dense', norm: 'generator_predictions.LayerNorm' },
    decoder: 'generator_lm_head',
    decoderBias: 'generator_lm_head.bias',
    pooler: 'classifier.dense',
    classifier: 'classifier.out_proj',
  }),
  readConfig(json, source) {
    const checked = validate(modelTypeOf(json) === modelTypes.dense ? dense : trees, json, source);
    const { embedding_size: embeddingSize, hidden_size: hiddenSize } = checked;
    return {
      ...fromEncoderEntries(checked, readFeedforward(checked, source)),
      embeddingSize: embeddingSize === hiddenSize ? undefined : embeddingSize,
    };
  },
  writeConfig(config, task) {
    const isDense = config.family === modelTypes.dense;
    const written = toEncoderEntries(config, isDense ? 'Electra' : 'UltraFastElectra', task, isDense);
    return { ...written, embedding_size: config.embeddingSize ?? config.hiddenSize };
  },
};
