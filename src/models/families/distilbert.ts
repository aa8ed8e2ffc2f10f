/** DistilBERT (arXiv 1910.01108), as transformers has it: BERT's layers under other names, without token types and without a pooler. */
import * as v from 'valibot';
import type { Task } from '../config.ts';
import { feedforwardEntries, fromFeedforwardEntries, headCount, hidden, layerCount, neurons, probability, validate } from './entries.ts';
import type { Family } from './family.ts';
import {
  activation,
  activationName,
  architectureOf,
  commonEntries,
  fromEncoderEntries,
  modelTypeOf,
  padding,
  toFeedforward,
  toLabelEntries,
  treeActivation,
} from './hugging_face.ts';

const modelTypes = { dense: 'distilbert', trees: 'ultrafastdistilbert' } as const;
const entries = {
  ...commonEntries(),
  dim: v.optional(hidden, 768),
  n_layers: v.optional(layerCount, 6),
  n_heads: v.optional(headCount, 12),
  // transformers takes BERT's names of these three for its own, and rather than them.
  hidden_size: v.optional(hidden),
  num_hidden_layers: v.optional(layerCount),
  num_attention_heads: v.optional(headCount),
  activation,
  dropout: v.optional(probability, 0.1),
  attention_dropout: v.optional(probability, 0.1),
  seq_classif_dropout: v.optional(probability, 0.2),
  pad_token_id: padding(0),
  /** How a new model's positions start; a checkpoint has them as a table either way. */
  sinusoidal_pos_embds: v.nullish(v.boolean()),
};
const dense = v.object({ ...entries, model_type: v.literal(modelTypes.dense), hidden_dim: v.optional(neurons, 3072) });
const trees = v.object({
  ...entries,
  model_type: v.literal(modelTypes.trees),
  activation: treeActivation,
  ...feedforwardEntries,
  intermed_type: v.picklist(['fff', 'none']),
});

/** Of every norm; no configuration says another. */
const normEpsilon = 1e-12;

export const distilbert: Family = {
  modelTypes,
  normPlacement: 'post',
  specialTokens: true,
  transformFollows: true,
  classifier: { activation: 'relu', inputDropout: false },
  prefix: 'distilbert.',
  heads: /^(vocab_(transform|layer_norm|projector)|pre_classifier|classifier)\./,
  maskedHead: /^vocab_(transform|layer_norm|projector)\./,
  unused: /embeddings\.position_ids$/,
  writesTiedDecoder: false,
  names: (prefix) => ({
    word: `${prefix}embeddings.word_embeddings`,
    positions: `${prefix}embeddings.position_embeddings`,
    embeddingNorm: `${prefix}embeddings.LayerNorm`,
    block(index) {
      const block = `${prefix}transformer.layer.${index}`;
      const attention = `${block}.attention`;
      return {
        norm1: `${block}.sa_layer_norm`,
        norm2: `${block}.output_layer_norm`,
        queryKeyValue: [`${attention}.q_lin`, `${attention}.k_lin`, `${attention}.v_lin`],
        attentionDense: `${attention}.out_lin`,
        up: `${block}.ffn.lin1`,
        down: `${block}.ffn.lin2`,
        fastFeedforward: `${block}.ffn`,
      };
    },
    transform: { dense: 'vocab_transform', norm: 'vocab_layer_norm' },
    decoder: 'vocab_projector',
    decoderBias: 'vocab_projector.bias',
    pooler: 'pre_classifier',
    classifier: 'classifier',
  }),
  readConfig(json, source) {
    const own = validate(modelTypeOf(json) === modelTypes.dense ? dense : trees, json, source);
    const config = fromEncoderEntries(
      {
        ...own,
        hidden_size: own.hidden_size ?? own.dim,
        num_hidden_layers: own.num_hidden_layers ?? own.n_layers,
        num_attention_heads: own.num_attention_heads ?? own.n_heads,
        hidden_act: own.activation,
        type_vocab_size: 0,
        layer_norm_eps: normEpsilon,
        hidden_dropout_prob: own.dropout,
        attention_probs_dropout_prob: own.attention_dropout,
        classifier_dropout: own.seq_classif_dropout,
      },
      'hidden_dim' in own ? { kind: 'dense', neurons: own.hidden_dim } : fromFeedforwardEntries(own, `${source}: '`),
    );
    // What attention gives joins the stream as it is.
    return { ...config, dropout: { ...config.dropout, attentionOutput: 0 } };
  },
  writeConfig(config, task: Task) {
    const isDense = config.family === modelTypes.dense;
    return {
      architectures: [architectureOf(isDense ? 'DistilBert' : 'UltraFastDistilBert', task)],
      model_type: config.family,
      vocab_size: config.vocabSize,
      dim: config.hiddenSize,
      n_layers: config.numHiddenLayers,
      n_heads: config.numAttentionHeads,
      ...toFeedforward(config.feedforward, isDense, 'hidden_dim'),
      activation: activationName(config),
      dropout: config.dropout.hidden,
      attention_dropout: config.dropout.attention,
      seq_classif_dropout: config.dropout.classifier,
      max_position_embeddings: config.maxPositionEmbeddings,
      sinusoidal_pos_embds: false,
      initializer_range: config.initializerRange,
      pad_token_id: config.padTokenId ?? null,
      ...(config.untiedDecoder && { tie_word_embeddings: false }),
      ...toLabelEntries(config),
    };
  },
};
