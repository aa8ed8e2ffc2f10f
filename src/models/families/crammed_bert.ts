/** crammedBERT (arXiv 2212.14034), as its authors' PyTorch code has it: pre-norm with a final norm, and a scaled sinusoid for positions. */
import * as v from 'valibot';
import { InputError } from '../../errors.ts';
import { type ModelConfig, problemTypes } from '../config.ts';
import {
  feedforwardEntries,
  fromFeedforwardEntries,
  headCount,
  hidden,
  labelCount,
  labelEntries,
  labelMap,
  labelNamesOf,
  layerCount,
  positionCount,
  positive,
  probability,
  problemEntry,
  toFeedforwardEntries,
  validate,
  vocabulary,
} from './entries.ts';
import type { Family } from './family.ts';

const poolerNames = { zero_index: 'first', avg: 'mean', max: 'max', lse: 'logSumExp' } as const;

/** null: no token is padding. */
const padding = v.optional(v.nullable(v.pipe(v.number(), v.integer(), v.minValue(0))), 0);

const modelType = 'crammedBERT';

const schema = v.object({
  model_type: v.literal(modelType),
  id2label: labelMap,
  problem_type: v.nullish(v.picklist(problemTypes)),
  arch: v.object({
    hidden_size: hidden,
    num_transformer_layers: layerCount,
    intermed_type: v.picklist(['fff', 'ff', 'none']),
    ...feedforwardEntries,
    use_bias: v.optional(v.boolean(), false),
    hidden_dropout_prob: v.optional(probability, 0.1),
    norm: v.optional(v.literal('LayerNorm'), 'LayerNorm'),
    norm_eps: v.optional(positive, 1e-12),
    norm_scheme: v.optional(v.literal('pre'), 'pre'),
    nonlin: v.optional(v.literal('GELU'), 'GELU'),
    tie_weights: v.optional(v.literal(true), true),
    decoder_bias: v.optional(v.literal(false), false),
    skip_head_transform: v.optional(v.literal(true), true),
    final_norm: v.optional(v.literal(true), true),
    ffn_layer_frequency: v.optional(v.literal(1), 1),
    sparse_prediction: v.optional(positive, 0.25),
    objective_layout: v.optional(v.literal('MLM'), 'MLM'),
    loss: v.optional(v.literal('cross-entropy'), 'cross-entropy'),
    num_labels: v.nullish(labelCount),
    embedding: v.object({
      vocab_size: vocabulary,
      embedding_dim: hidden,
      max_seq_length: positionCount,
      pad_token_id: padding,
      pos_embedding: v.literal('scaled-sinusoidal'),
      normalization: v.optional(v.literal(true), true),
      dropout_prob: v.optional(probability, 0.1),
      stable_low_precision: v.optional(v.literal(false), false),
    }),
    attention: v.object({
      type: v.optional(v.literal('self-attention'), 'self-attention'),
      num_attention_heads: headCount,
      causal_attention: v.optional(v.literal(false), false),
      rotary_embedding: v.optional(v.literal(false), false),
      skip_output_projection: v.optional(v.literal(false), false),
      sequence_op: v.optional(v.literal('torch-softmax'), 'torch-softmax'),
      seq_op_in_fp32: v.optional(v.boolean(), false),
      qkv_bias: v.optional(v.boolean(), false),
      dropout_prob: v.optional(probability, 0.1),
    }),
    init: v.optional(v.object({ type: v.optional(v.literal('normal'), 'normal'), std: v.optional(positive, 0.02) }), {}),
    classification_head: v.optional(
      v.object({
        pooler: v.optional(v.picklist(['zero_index', 'avg', 'max', 'lse']), 'zero_index'),
        include_ff_layer: v.optional(v.literal(true), true),
        head_dim: v.optional(hidden),
        nonlin: v.optional(v.literal('Tanh'), 'Tanh'),
        classifier_dropout: v.optional(probability, 0.1),
      }),
      {},
    ),
  }),
});

function fromCrammedBert({ arch, id2label, problem_type }: v.InferOutput<typeof schema>, source: string): ModelConfig {
  const labelNames = labelNamesOf(id2label, arch.num_labels);
  const { embedding, attention, classification_head: head } = arch;
  if (embedding.embedding_dim !== arch.hidden_size) {
    throw new InputError(
      `${source}: 'arch.embedding.embedding_dim' is ${embedding.embedding_dim}, expected hidden_size, ${arch.hidden_size}`,
    );
  }
  return {
    family: modelType,
    vocabSize: embedding.vocab_size,
    hiddenSize: arch.hidden_size,
    numHiddenLayers: arch.num_transformer_layers,
    numAttentionHeads: attention.num_attention_heads,
    maxPositionEmbeddings: embedding.max_seq_length,
    padTokenId: embedding.pad_token_id ?? undefined,
    typeVocabSize: 0,
    feedforward: fromFeedforwardEntries(arch, `${source}: 'arch.`),
    bias: { queryKeyValue: attention.qkv_bias, dense: arch.use_bias },
    layerNormEps: arch.norm_eps,
    initializerRange: arch.init.std ?? 0.02,
    dropout: {
      embedding: embedding.dropout_prob,
      attention: attention.dropout_prob,
      hidden: arch.hidden_dropout_prob,
      classifier: head.classifier_dropout ?? 0.1,
    },
    mlmProbability: arch.sparse_prediction,
    pooler: { kind: poolerNames[head.pooler ?? 'zero_index'], size: head.head_dim ?? arch.hidden_size },
    numLabels: arch.num_labels ?? labelNames?.length,
    labelNames,
    problemType: problem_type ?? undefined,
  };
}

function toCrammedBert(config: ModelConfig): Record<string, unknown> {
  const { feedforward, dropout } = config;
  const pooler = Object.entries(poolerNames).find(([, kind]) => kind === config.pooler.kind)?.[0];
  return {
    model_type: modelType,
    ...labelEntries(config.labelNames),
    ...problemEntry(config),
    arch: {
      architectures: ['ScriptableCrammedBERT'],
      num_transformer_layers: config.numHiddenLayers,
      hidden_size: config.hiddenSize,
      ...toFeedforwardEntries(feedforward),
      hidden_dropout_prob: dropout.hidden,
      norm: 'LayerNorm',
      norm_eps: config.layerNormEps,
      norm_scheme: 'pre',
      nonlin: 'GELU',
      tie_weights: true,
      decoder_bias: false,
      sparse_prediction: config.mlmProbability,
      loss: 'cross-entropy',
      objective_layout: 'MLM',
      embedding: {
        vocab_size: config.vocabSize,
        pos_embedding: 'scaled-sinusoidal',
        dropout_prob: dropout.embedding,
        pad_token_id: config.padTokenId ?? null,
        max_seq_length: config.maxPositionEmbeddings,
        embedding_dim: config.hiddenSize,
        normalization: true,
        stable_low_precision: false,
      },
      attention: {
        type: 'self-attention',
        causal_attention: false,
        num_attention_heads: config.numAttentionHeads,
        dropout_prob: dropout.attention,
        skip_output_projection: false,
        qkv_bias: config.bias.queryKeyValue,
        rotary_embedding: false,
        seq_op_in_fp32: false,
        sequence_op: 'torch-softmax',
      },
      init: { type: 'normal', std: config.initializerRange },
      ffn_layer_frequency: 1,
      skip_head_transform: true,
      use_bias: config.bias.dense,
      final_norm: true,
      num_labels: config.numLabels ?? null,
      classification_head: {
        pooler,
        include_ff_layer: true,
        head_dim: config.pooler.size,
        nonlin: 'Tanh',
        classifier_dropout: dropout.classifier,
      },
    },
  };
}

export const crammedBert: Family = {
  modelTypes: { dense: modelType, trees: modelType },
  normPlacement: 'pre',
  specialTokens: false,
  transformFollows: false,
  classifier: { activation: 'tanh', inputDropout: false },
  prefix: '',
  heads: /^(decoder|pooler|head)\./,
  maskedHead: /^decoder\./,
  unused: /^(bert\.)?pooler\.dense\.|^cls\.seq_relationship\.|embeddings\.(position_ids|token_type_ids)$/,
  writesTiedDecoder: true,
  names: () => ({
    word: 'encoder.embedding.word_embedding',
    positionScale: 'encoder.embedding.pos_embedding.scale_factor',
    embeddingNorm: 'encoder.embedding.norm',
    block(index) {
      const block = `encoder.layers.${index}`;
      return {
        norm1: `${block}.norm1`,
        norm2: `${block}.norm2`,
        queryKeyValue: `${block}.attn.self_attention.query_key_value`,
        attentionDense: `${block}.attn.dense`,
        up: `${block}.ffn.dense_in`,
        down: `${block}.ffn.dense_out`,
        fastFeedforward: `${block}.ffn`,
        normFactor: `${block}.attn.self_attention.norm_factor`,
      };
    },
    finalNorm: 'encoder.final_norm',
    decoder: 'decoder',
    pooler: 'pooler.dense',
    classifier: 'head',
  }),
  readConfig: (json, source) => fromCrammedBert(validate(schema, json, source), source),
  writeConfig: toCrammedBert,
};
