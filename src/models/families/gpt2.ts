/** GPT-2 (Radford and others, 2019), as transformers has it; with trees it is 'ultrafastgpt', of which the keys and names are GPT-2's and ours. */
import * as v from 'valibot';
import type { ModelConfig } from '../config.ts';
import {
  feedforwardEntries,
  fromFeedforwardEntries,
  headCount,
  hidden,
  layerCount,
  neurons,
  numberOrNone,
  oneOrSeveral,
  positionCount,
  probability,
  tokenId,
  tokenIds,
  validate,
  vocabulary,
} from './entries.ts';
import type { Family } from './family.ts';
import { activation, activationName, activationOf, modelTypeOf, toFeedforward, treeActivation } from './hugging_face.ts';

const modelTypes = { dense: 'gpt2', trees: 'ultrafastgpt' } as const;

const entries = {
  vocab_size: v.optional(vocabulary, 50257),
  n_positions: v.optional(positionCount, 1024),
  n_embd: v.optional(hidden, 768),
  n_layer: v.optional(layerCount, 12),
  n_head: v.optional(headCount, 12),
  embd_pdrop: v.optional(probability, 0.1),
  attn_pdrop: v.optional(probability, 0.1),
  resid_pdrop: v.optional(probability, 0.1),
  layer_norm_epsilon: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(1)), 1e-5),
  initializer_range: v.optional(v.pipe(v.number(), v.minValue(0)), 0.02),
  tie_word_embeddings: v.nullish(v.boolean(), true),
  bos_token_id: tokenId,
  eos_token_id: tokenIds,
  pad_token_id: tokenId,
  scale_attn_weights: v.nullish(v.literal(true), true),
  scale_attn_by_inverse_layer_idx: v.nullish(v.literal(false), false),
  add_cross_attention: v.nullish(v.literal(false), false),
};
const dense = v.object({
  ...entries,
  model_type: v.literal(modelTypes.dense),
  n_inner: v.nullish(neurons),
  activation_function: v.optional(activation, 'gelu_new'),
});
const trees = v.object({
  ...entries,
  model_type: v.literal(modelTypes.trees),
  ...feedforwardEntries,
  intermed_type: v.picklist(['fff', 'none']),
  activation_function: treeActivation,
});

export const gpt2: Family = {
  modelTypes,
  decoder: { norm: 'layer', transposed: true },
  normPlacement: 'pre',
  specialTokens: false,
  transformFollows: false,
  classifier: { activation: 'tanh', inputDropout: false },
  prefix: 'transformer.',
  heads: /^(lm_head|score)\./,
  maskedHead: /^lm_head\./,
  unused: /\.attn\.(masked_)?bias$/,
  writesTiedDecoder: false,
  names: (prefix) => ({
    word: `${prefix}wte`,
    positions: `${prefix}wpe`,
    block(index) {
      const block = `${prefix}h.${index}`;
      return {
        norm1: `${block}.ln_1`,
        norm2: `${block}.ln_2`,
        queryKeyValue: `${block}.attn.c_attn`,
        attentionDense: `${block}.attn.c_proj`,
        up: `${block}.mlp.c_fc`,
        down: `${block}.mlp.c_proj`,
        fastFeedforward: `${block}.mlp`,
      };
    },
    finalNorm: `${prefix}ln_f`,
    decoder: 'lm_head',
    pooler: 'pooler',
    classifier: 'score',
  }),
  readConfig(json, source) {
    const own = validate(modelTypeOf(json) === modelTypes.dense ? dense : trees, json, source);
    return {
      family: own.model_type,
      vocabSize: own.vocab_size,
      hiddenSize: own.n_embd,
      numHiddenLayers: own.n_layer,
      numAttentionHeads: own.n_head,
      maxPositionEmbeddings: own.n_positions,
      padTokenId: numberOrNone(own.pad_token_id),
      bosTokenId: numberOrNone(own.bos_token_id),
      eosTokenIds: own.eos_token_id ?? undefined,
      untiedDecoder: own.tie_word_embeddings === false || undefined,
      typeVocabSize: 0,
      feedforward:
        own.model_type === modelTypes.dense
          ? { kind: 'dense', neurons: own.n_inner ?? 4 * own.n_embd }
          : fromFeedforwardEntries(own, `${source}: '`),
      activation: activationOf(own.activation_function),
      bias: { queryKeyValue: true, dense: true },
      layerNormEps: own.layer_norm_epsilon,
      initializerRange: own.initializer_range,
      dropout: { embedding: own.embd_pdrop, attention: own.attn_pdrop, hidden: own.resid_pdrop, classifier: own.resid_pdrop },
      mlmProbability: 0.15,
      pooler: { kind: 'first', size: own.n_embd },
    };
  },
  writeConfig(config: ModelConfig) {
    const isDense = config.family === modelTypes.dense;
    const { dropout, eosTokenIds: eos } = config;
    return {
      architectures: [isDense ? 'GPT2LMHeadModel' : 'UltraFastGPTLMHeadModel'],
      model_type: config.family,
      vocab_size: config.vocabSize,
      n_positions: config.maxPositionEmbeddings,
      n_embd: config.hiddenSize,
      n_layer: config.numHiddenLayers,
      n_head: config.numAttentionHeads,
      ...toFeedforward(config.feedforward, isDense, 'n_inner'),
      // As transformers has it where it is the usual four times the width.
      ...(isDense && config.feedforward.kind === 'dense' && config.feedforward.neurons === 4 * config.hiddenSize && { n_inner: null }),
      activation_function: activationName(config),
      embd_pdrop: dropout.embedding,
      attn_pdrop: dropout.attention,
      resid_pdrop: dropout.hidden,
      layer_norm_epsilon: config.layerNormEps,
      initializer_range: config.initializerRange,
      // transformers would take its own default for one that is missing.
      bos_token_id: config.bosTokenId ?? null,
      eos_token_id: oneOrSeveral(eos),
      ...(config.padTokenId !== undefined && { pad_token_id: config.padTokenId }),
      ...(config.untiedDecoder && { tie_word_embeddings: false }),
    };
  },
};

/** GPT-2's configuration, of trees unless `changes` says otherwise: the small one's width, its layers, heads and positions. */
export function gptConfig(changes: Partial<ModelConfig> & Pick<ModelConfig, 'vocabSize'>): ModelConfig {
  const dense = changes.feedforward?.kind === 'dense';
  const { feedforward = { kind: 'fff', trees: 1, depth: 11 } } = changes;
  const json = {
    model_type: modelTypes[dense ? 'dense' : 'trees'],
    vocab_size: changes.vocabSize,
    ...(!dense && toFeedforward(feedforward, false)),
  };
  const given = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
  return { ...gpt2.readConfig(json, 'the configuration'), ...given };
}
