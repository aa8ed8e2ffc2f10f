/**
 * ELECTRA (arXiv 2003.10555), as transformers has it: BERT's layers behind embeddings of a size of their own, which are projected to the
 * hidden size. The generator predicts masked tokens; the discriminator is an encoder, or a classifier with a head of its own.
 */
import * as v from 'valibot';
import { hidden, validate } from './entries.ts';
import type { Family } from './family.ts';
import { bertConfiguration, bertEncoderNames } from './hugging_face.ts';

const modelTypes = { dense: 'electra', trees: 'ultrafastelectra' };
const shared = bertConfiguration(modelTypes, 'Electra', { hiddenSize: 256, heads: 4, neurons: 1024 });
const own = v.object({ embedding_size: v.optional(hidden, 128) });

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
    const config = shared.readConfig(json, source);
    const { embedding_size: embeddingSize } = validate(own, json, source);
    return { ...config, embeddingSize: embeddingSize === config.hiddenSize ? undefined : embeddingSize };
  },
  writeConfig: (config, task) => ({ ...shared.writeConfig(config, task), embedding_size: config.embeddingSize ?? config.hiddenSize }),
};
