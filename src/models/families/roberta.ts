/**
 * RoBERTa (arXiv 1907.11692) and XLM-RoBERTa (arXiv 1911.02116), as transformers has them: BERT's layers, positions that are counted from
 * behind the padding token's number, and a classifier without a pooler.
 */
import { InputError } from '../../errors.ts';
import type { Family } from './family.ts';
import { bertConfiguration, bertEncoderNames } from './hugging_face.ts';

/** `name`: of transformers' classes. */
function robertaFamily(modelTypes: Family['modelTypes'], name: string, vocabularySize: number): Family {
  const shared = bertConfiguration(modelTypes, name, { vocabularySize, padTokenId: 1 });
  return {
    modelTypes,
    normPlacement: 'post',
    specialTokens: true,
    transformFollows: false,
    classifier: { activation: 'tanh', inputDropout: true },
    prefix: 'roberta.',
    heads: /^(lm_head|classifier)\./,
    maskedHead: /^lm_head\./,
    unused: /^(roberta\.)?pooler\.dense\.|embeddings\.(position_ids|token_type_ids)$/,
    writesTiedDecoder: false,
    names: (prefix) => ({
      ...bertEncoderNames(prefix),
      transform: { dense: 'lm_head.dense', norm: 'lm_head.layer_norm' },
      decoder: 'lm_head.decoder',
      decoderBias: 'lm_head.bias',
      pooler: 'classifier.dense',
      classifier: 'classifier.out_proj',
    }),
    readConfig(json, source) {
      const config = shared.readConfig(json, source);
      const { padTokenId, maxPositionEmbeddings: rows } = config;
      if (padTokenId === undefined)
        throw new InputError(`${source}: 'pad_token_id' is null, expected a token's number: positions are counted from behind it`);
      const positionOffset = padTokenId + 1;
      if (rows <= positionOffset)
        throw new InputError(
          `${source}: 'max_position_embeddings' is ${rows}, expected more than ${positionOffset}: as many come before a text's first position`,
        );
      return { ...config, positionOffset, maxPositionEmbeddings: rows - positionOffset };
    },
    writeConfig: (config, task) =>
      shared.writeConfig({ ...config, maxPositionEmbeddings: config.maxPositionEmbeddings + (config.positionOffset ?? 0) }, task),
  };
}

export const roberta = robertaFamily({ dense: 'roberta', trees: 'ultrafastroberta' }, 'Roberta', 50265);
export const xlmRoberta = robertaFamily({ dense: 'xlm-roberta', trees: 'ultrafastxlm-roberta' }, 'XLMRoberta', 30522);
