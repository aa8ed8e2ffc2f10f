/** BERT (arXiv 1810.04805), as transformers has it; with trees it is 'ultrafastbert', of which the keys are BERT's. */
import * as v from 'valibot';
import { validate } from './entries.ts';
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

const modelTypes = { dense: 'bert', trees: 'ultrafastbert' } as const;
const entries = encoderEntries();
const dense = v.object({ ...entries, model_type: v.literal(modelTypes.dense), ...denseEntries() });
const trees = v.object({ ...entries, model_type: v.literal(modelTypes.trees), ...treeEntries });

export const bert: Family = {
  modelTypes,
  normPlacement: 'post',
  specialTokens: true,
  transformFollows: true,
  classifier: { activation: 'tanh', inputDropout: false },
  prefix: 'bert.',
  heads: /^(cls|classifier)\./,
  maskedHead: /^cls\./,
  unused: /^(bert\.)?pooler\.dense\.|^cls\.seq_relationship\.|embeddings\.(position_ids|token_type_ids)$/,
  writesTiedDecoder: false,
  names: (prefix) => ({
    ...bertEncoderNames(prefix),
    transform: { dense: 'cls.predictions.transform.dense', norm: 'cls.predictions.transform.LayerNorm' },
    decoder: 'cls.predictions.decoder',
    decoderBias: 'cls.predictions.bias',
    pooler: `${prefix}pooler.dense`,
    classifier: 'classifier',
  }),
  readConfig(json, source) {
    const checked = validate(modelTypeOf(json) === modelTypes.dense ? dense : trees, json, source);
    return fromEncoderEntries(checked, readFeedforward(checked, source));
  },
  writeConfig: (config, task) => {
    const isDense = config.family === modelTypes.dense;
    return toEncoderEntries(config, isDense ? 'Bert' : 'UltraFastBert', task, isDense);
  },
};
