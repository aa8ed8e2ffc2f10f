/** BERT (arXiv 1810.04805), as transformers has it; with trees it is 'ultrafastbert', of which the keys are BERT's. */
import type { Family } from './family.ts';
import { bertConfiguration, bertEncoderNames } from './hugging_face.ts';

export const bert: Family = {
  ...bertConfiguration({ dense: 'bert', trees: 'ultrafastbert' }, 'Bert'),
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
};
