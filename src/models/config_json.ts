/** How config.json says what a model is: crammedBERT's form and BERT's, read and written. */

import * as v from 'valibot';
import { checkArgument, kinds } from '../arguments.ts';
import { InputError, quoted } from '../errors.ts';
import { describeFeedforward, type FeedforwardConfig, type ModelConfig, neuronsOf, problemTypes, type Task } from './config.ts';

// Limits that no real model reaches; they keep a damaged file from asking for absurd amounts of memory.
const count = (most: number) => v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(most));
const probability = v.pipe(v.number(), v.minValue(0), v.ltValue(1));
const positive = v.pipe(v.number(), v.gtValue(0), v.maxValue(1));
const vocabulary = count(2 ** 21);
const hidden = count(2 ** 14);
const layerCount = count(512);
const positionCount = count(2 ** 16);
const depth = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(24));
const leafWidth = count(2 ** 16);
const maxNeurons = 2 ** 24;
/** A table of positions is made before the file is read. */
const maxPositionValues = 2 ** 25;
const neurons = count(maxNeurons);
const labelCount = count(2 ** 16);
/** null: no token is padding. */
const padding = v.optional(v.nullable(v.pipe(v.number(), v.integer(), v.minValue(0))), 0);

/** transformers takes whatever stands there for a name. */
const labelMap = v.nullish(v.record(v.string(), v.pipe(v.union([v.string(), v.number(), v.boolean(), v.null()]), v.transform(String))));

const poolKinds = { zero_index: 'first', avg: 'mean', max: 'max', lse: 'logSumExp' } as const;

/** Neurons or trees, the trees' depth, and two entries of our own: they stay away where they say nothing, so that the authors' code knows every key. */
const feedforwardEntries = {
  intermed_size: v.optional(neurons),
  intermed_depth: v.optional(depth),
  intermed_leaf_width: v.optional(leafWidth),
  intermed_always_on: v.optional(neurons),
  intermed_thresholds: v.optional(v.boolean()),
};
type FeedforwardEntries = v.InferOutput<v.ObjectSchema<typeof feedforwardEntries, undefined>> & { intermed_type: 'fff' | 'ff' | 'none' };

const crammedBert = v.object({
  model_type: v.literal('crammedBERT'),
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
      num_attention_heads: count(2 ** 10),
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

const bertEntries = {
  vocab_size: vocabulary,
  hidden_size: hidden,
  num_hidden_layers: layerCount,
  num_attention_heads: count(2 ** 10),
  max_position_embeddings: positionCount,
  type_vocab_size: v.optional(count(2 ** 10), 2),
  /** A negative one counts from the vocabulary's end, as in torch. */
  pad_token_id: v.optional(v.nullable(v.pipe(v.number(), v.integer())), 0),
  /** The second is the same, under a name of before. */
  hidden_act: v.optional(v.picklist(['gelu', 'gelu_python']), 'gelu'),
  layer_norm_eps: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(1)), 1e-12),
  initializer_range: v.optional(v.pipe(v.number(), v.minValue(0)), 0.02),
  hidden_dropout_prob: v.optional(probability, 0.1),
  attention_probs_dropout_prob: v.optional(probability, 0.1),
  classifier_dropout: v.nullish(probability),
  position_embedding_type: v.nullish(v.literal('absolute'), 'absolute'),
  is_decoder: v.nullish(v.literal(false), false),
  add_cross_attention: v.nullish(v.literal(false), false),
  tie_word_embeddings: v.nullish(v.boolean(), true),
  num_labels: v.nullish(labelCount),
  id2label: labelMap,
  problem_type: v.nullish(v.string()),
  sentence_transformers: v.nullish(v.looseObject({ activation_fn: v.nullish(v.string()) })),
  /** The same in files of before sentence-transformers 4. */
  sbert_ce_default_activation_function: v.nullish(v.string()),
};
const bert = v.object({ ...bertEntries, model_type: v.literal('bert'), intermediate_size: neurons });
const ultraFastBert = v.object({
  ...bertEntries,
  model_type: v.literal('ultrafastbert'),
  intermed_type: v.picklist(['fff', 'none']),
  ...feedforwardEntries,
});

/**
 * A checkpoint's config.json, checked; `source` names it in messages.
 * @throws InputError naming the key if it is missing, of the wrong kind, absurdly large, or asks for what is not supported.
 */
export function parseConfig(json: unknown, source: string): ModelConfig {
  checkArgument('source', source, kinds.text);
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw new InputError(`${source}: is not a JSON object`);
  const family = (json as { model_type?: unknown }).model_type;
  let config: ModelConfig;
  if (family === 'crammedBERT') config = fromCrammedBert(validate(crammedBert, json, source), source);
  else if (family === 'bert' || family === 'ultrafastbert')
    config = fromBert(validate(family === 'bert' ? bert : ultraFastBert, json, source), source);
  else throw new InputError(`${source}: 'model_type' is ${quoted(family)}, expected "crammedBERT", "bert" or "ultrafastbert"`);
  checkTogether(config, source);
  return config;
}

function fromCrammedBert({ arch, id2label, problem_type }: v.InferOutput<typeof crammedBert>, source: string): ModelConfig {
  const labelNames = labelNamesOf(id2label, arch.num_labels);
  const { embedding, attention, classification_head: head } = arch;
  if (embedding.embedding_dim !== arch.hidden_size) {
    throw new InputError(
      `${source}: 'arch.embedding.embedding_dim' is ${embedding.embedding_dim}, expected hidden_size, ${arch.hidden_size}`,
    );
  }
  return {
    family: 'crammedBERT',
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
    pooler: { kind: poolKinds[head.pooler ?? 'zero_index'], size: head.head_dim ?? arch.hidden_size },
    numLabels: arch.num_labels ?? labelNames?.length,
    labelNames,
    problemType: problem_type ?? undefined,
  };
}

/** `prefix`: of the keys' names in messages. */
function fromFeedforwardEntries(entries: FeedforwardEntries, prefix: string): FeedforwardConfig {
  const { intermed_type: kind, intermed_size: size, intermed_depth: levels } = entries;
  if (kind === 'none') return { kind };
  if (size === undefined)
    throw new InputError(`${prefix}intermed_size' is missing, expected how many ${kind === 'fff' ? 'trees' : 'neurons'} there are`);
  if (kind === 'ff') return { kind: 'dense', neurons: size };
  if (levels === undefined) throw new InputError(`${prefix}intermed_depth' is missing, expected the depth of the trees`);
  return {
    kind,
    trees: size,
    depth: levels,
    leafWidth: entries.intermed_leaf_width,
    alwaysOn: entries.intermed_always_on,
    thresholds: entries.intermed_thresholds,
  };
}

function fromBert(json: v.InferOutput<typeof bert> | v.InferOutput<typeof ultraFastBert>, source: string): ModelConfig {
  const names = labelNamesOf(json.id2label, json.num_labels);
  const pad = json.pad_token_id;
  return {
    family: json.model_type,
    vocabSize: json.vocab_size,
    hiddenSize: json.hidden_size,
    numHiddenLayers: json.num_hidden_layers,
    numAttentionHeads: json.num_attention_heads,
    maxPositionEmbeddings: json.max_position_embeddings,
    padTokenId: pad === null ? undefined : pad < 0 ? json.vocab_size + pad : pad,
    untiedDecoder: json.tie_word_embeddings === false || undefined,
    typeVocabSize: json.type_vocab_size,
    feedforward:
      json.model_type === 'bert' ? { kind: 'dense', neurons: json.intermediate_size } : fromFeedforwardEntries(json, `${source}: '`),
    bias: { queryKeyValue: true, dense: true },
    layerNormEps: json.layer_norm_eps,
    initializerRange: json.initializer_range,
    dropout: {
      embedding: json.hidden_dropout_prob,
      attention: json.attention_probs_dropout_prob,
      hidden: json.hidden_dropout_prob,
      classifier: json.classifier_dropout ?? json.hidden_dropout_prob,
    },
    mlmProbability: 0.15,
    pooler: { kind: 'first', size: json.hidden_size },
    numLabels: json.num_labels ?? names?.length,
    labelNames: names,
    // Of a name that it does not know transformers takes no notice either.
    problemType: problemTypes.find((type) => type === json.problem_type),
    scoreFunction: json.sentence_transformers?.activation_fn ?? json.sbert_ce_default_activation_function ?? undefined,
  };
}

/**
 * Names of the labels in their order; the keys of `id2label` are their numbers. As in transformers, names that are not as many as `count` says
 * are none; one that is missing, which stops it only where it is the answer, is as if it had no name.
 */
function labelNamesOf(id2label: Record<string, string> | null | undefined, count: number | null | undefined): string[] | undefined {
  const keys = Object.keys(id2label ?? {});
  if (!id2label || keys.length === 0 || keys.length !== (count ?? keys.length)) return undefined;
  return keys.map((_, label) => (Object.hasOwn(id2label, label) ? id2label[label] : `LABEL_${label}`));
}

function checkTogether(config: ModelConfig, source: string): void {
  const { hiddenSize, numAttentionHeads: heads, padTokenId: padId, vocabSize: vocabularySize, feedforward } = config;
  if (hiddenSize % heads !== 0)
    throw new InputError(`${source}: hidden size ${hiddenSize} cannot be divided among ${heads} attention heads`);
  if (padId !== undefined && (padId >= vocabularySize || padId < 0))
    throw new InputError(`${source}: 'pad_token_id' is ${padId}, expected less than the vocabulary's ${vocabularySize}`);
  if (config.maxPositionEmbeddings * hiddenSize > maxPositionValues)
    throw new InputError(
      `${source}: ${config.maxPositionEmbeddings} positions of hidden size ${hiddenSize} are ${config.maxPositionEmbeddings * hiddenSize} numbers, expected at most ${maxPositionValues}`,
    );
  if (neuronsOf(feedforward).total > maxNeurons)
    throw new InputError(
      `${source}: 'intermed_size' and 'intermed_depth' ask for ${describeFeedforward(feedforward)}, more than ${maxNeurons} neurons a layer`,
    );
}

function validate<Schema extends v.GenericSchema>(schema: Schema, json: unknown, source: string): v.InferOutput<Schema> {
  const result = v.safeParse(schema, json);
  if (result.success) return result.output;
  const [issue] = result.issues;
  const key = v.getDotPath(issue);
  // Of a missing key valibot expects the key itself.
  if (issue.received === 'undefined')
    throw new InputError(`${source}: '${key}' is missing${issue.expected?.startsWith('"') ? '' : `, expected ${issue.expected}`}`);
  throw new InputError(`${source}: '${key}' is ${quoted(issue.input)}, expected ${issue.expected}`);
}

/** @throws InputError if no config.json can say what a configuration asks for: what is made of it could be saved, but not opened again */
export function checkConfig(config: ModelConfig): void {
  const source = 'the configuration';
  checkArgument('config', config, kinds.object);
  const { bias } = parseConfig(configToJson(config), source);
  for (const part of ['queryKeyValue', 'dense'] as const)
    if (bias[part] !== config.bias[part])
      throw new InputError(`${source}: 'bias.${part}' is ${config.bias[part]}, expected ${bias[part]} of the family '${config.family}'`);
}

/** The config.json of a checkpoint; the inverse of {@link parseConfig}. */
export function configToJson(config: ModelConfig, task: Task = 'masked-lm'): Record<string, unknown> {
  checkArgument('config', config, kinds.object);
  for (const part of ['feedforward', 'dropout', 'bias', 'pooler'] as const) checkArgument(`config.${part}`, config[part], kinds.object);
  return config.family === 'crammedBERT' ? toCrammedBert(config) : toBert(config, task);
}

function toCrammedBert(config: ModelConfig): Record<string, unknown> {
  const { feedforward, dropout } = config;
  const pooler = Object.entries(poolKinds).find(([, kind]) => kind === config.pooler.kind)?.[0];
  return {
    model_type: 'crammedBERT',
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

function toFeedforwardEntries(feedforward: FeedforwardConfig): FeedforwardEntries {
  if (feedforward.kind === 'none') return { intermed_type: 'none' };
  if (feedforward.kind === 'dense') return { intermed_type: 'ff', intermed_size: feedforward.neurons };
  const { trees, depth, leafWidth = 1, alwaysOn = 0, thresholds } = feedforward;
  return {
    intermed_type: 'fff',
    intermed_size: trees,
    intermed_depth: depth,
    ...(leafWidth > 1 && { intermed_leaf_width: leafWidth }),
    ...(alwaysOn > 0 && { intermed_always_on: alwaysOn }),
    ...(thresholds && { intermed_thresholds: true }),
  };
}

/** transformers' names of the classes, for every family. */
function labelEntries(names: readonly string[] | undefined): Record<string, unknown> {
  if (!names) return {};
  return {
    id2label: Object.fromEntries(names.map((label, i) => [i, label])),
    label2id: Object.fromEntries(names.map((label, i) => [label, i])),
  };
}

const problemEntry = ({ problemType }: ModelConfig) => (problemType ? { problem_type: problemType } : {});

function toBert(config: ModelConfig, task: Task): Record<string, unknown> {
  const { feedforward, dropout } = config;
  const name = config.family === 'bert' ? 'Bert' : 'UltraFastBert';
  const architecture = { 'masked-lm': 'ForMaskedLM', 'sequence-classification': 'ForSequenceClassification', encoder: 'Model' }[task];
  const names = config.labelNames;
  return {
    architectures: [`${name}${architecture}`],
    model_type: config.family,
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    num_hidden_layers: config.numHiddenLayers,
    num_attention_heads: config.numAttentionHeads,
    ...(config.family === 'bert' && feedforward.kind === 'dense'
      ? { intermediate_size: feedforward.neurons }
      : toFeedforwardEntries(feedforward)),
    hidden_act: 'gelu',
    hidden_dropout_prob: dropout.hidden,
    attention_probs_dropout_prob: dropout.attention,
    classifier_dropout: dropout.classifier === dropout.hidden ? null : dropout.classifier,
    max_position_embeddings: config.maxPositionEmbeddings,
    type_vocab_size: config.typeVocabSize,
    initializer_range: config.initializerRange,
    layer_norm_eps: config.layerNormEps,
    pad_token_id: config.padTokenId ?? null,
    ...(config.untiedDecoder && { tie_word_embeddings: false }),
    position_embedding_type: 'absolute',
    ...(names ? labelEntries(names) : config.numLabels === undefined ? {} : { num_labels: config.numLabels }),
    ...problemEntry(config),
    ...(config.scoreFunction && { sentence_transformers: { activation_fn: config.scoreFunction } }),
  };
}
