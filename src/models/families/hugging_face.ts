/** What the configurations of transformers' encoders have in common: most have BERT's keys. */

import * as v from 'valibot';
import type { Activation } from '../../nn/activation.ts';
import { type FeedforwardConfig, type ModelConfig, problemTypes, type Task } from '../config.ts';
import {
  count,
  feedforwardEntries,
  fromFeedforwardEntries,
  headCount,
  hidden,
  labelCount,
  labelEntries,
  labelMap,
  labelNamesOf,
  layerCount,
  neurons,
  positionCount,
  probability,
  problemEntry,
  toFeedforwardEntries,
  validate,
  vocabulary,
} from './entries.ts';
import type { Family } from './family.ts';

/** A negative number of a token counts from the vocabulary's end, as in torch; null: no token is padding. */
export const padding = (otherwise: number) => v.optional(v.nullable(v.pipe(v.number(), v.integer())), otherwise);

/** transformers' names of activations. Several are of one function: by another formula, or under a name of before. */
const activationNames = {
  gelu: 'gelu',
  gelu_python: 'gelu',
  gelu_new: 'geluTanh',
  gelu_pytorch_tanh: 'geluTanh',
  gelu_python_tanh: 'geluTanh',
  gelu_fast: 'geluTanh',
  gelu_accurate: 'geluTanh',
  silu: 'silu',
  swish: 'silu',
  relu: 'relu',
} as const satisfies Record<string, Activation>;
type ActivationName = keyof typeof activationNames;

export const activation = v.optional(v.picklist(Object.keys(activationNames) as ActivationName[]), 'gelu');
/** Trees have GELU. */
export const treeActivation = v.optional(v.picklist(['gelu', 'gelu_python'], '"gelu": trees have no other'), 'gelu');

/** The name under which an activation is written. */
export const activationName = ({ activation = 'gelu' }: ModelConfig): string =>
  Object.entries(activationNames).find(([, own]) => own === activation)?.[0] as string;

/** Under the same names in every family; `vocabularySize` where nothing is said. */
export const commonEntries = (vocabularySize = 30522) => ({
  vocab_size: v.optional(vocabulary, vocabularySize),
  max_position_embeddings: v.optional(positionCount, 512),
  initializer_range: v.optional(v.pipe(v.number(), v.minValue(0)), 0.02),
  tie_word_embeddings: v.nullish(v.boolean(), true),
  num_labels: v.nullish(labelCount),
  id2label: labelMap,
  problem_type: v.nullish(v.string()),
  sentence_transformers: v.nullish(v.looseObject({ activation_fn: v.nullish(v.string()) })),
  /** The same in files of before sentence-transformers 4. */
  sbert_ce_default_activation_function: v.nullish(v.string()),
});

/** What a family's keys are where config.json says nothing, as the family's class in transformers has it. */
export interface Defaults {
  vocabularySize?: number;
  hiddenSize?: number;
  heads?: number;
  neurons?: number;
  padTokenId?: number;
}

/** BERT's keys, which others have too. */
const encoderEntries = ({ vocabularySize, hiddenSize = 768, heads = 12, padTokenId = 0 }: Defaults = {}) => ({
  ...commonEntries(vocabularySize),
  hidden_size: v.optional(hidden, hiddenSize),
  num_hidden_layers: v.optional(layerCount, 12),
  num_attention_heads: v.optional(headCount, heads),
  type_vocab_size: v.optional(count(2 ** 10), 2),
  pad_token_id: padding(padTokenId),
  hidden_act: activation,
  layer_norm_eps: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(1)), 1e-12),
  hidden_dropout_prob: v.optional(probability, 0.1),
  attention_probs_dropout_prob: v.optional(probability, 0.1),
  classifier_dropout: v.nullish(probability),
  is_decoder: v.nullish(v.literal(false, 'false: a decoder, whose tokens see only those before them, is not computed'), false),
  add_cross_attention: v.nullish(v.literal(false, 'false: attention to another text is not computed'), false),
});

/** Of a model with dense layers, which transformers knows, and of its kin with trees. */
const denseEntries = ({ neurons: most = 3072 }: Defaults = {}) => ({ intermediate_size: v.optional(neurons, most) });
const treeEntries = { ...feedforwardEntries, intermed_type: v.picklist(['fff', 'none']), hidden_act: treeActivation };

type Output<Entries extends v.ObjectEntries> = v.InferOutput<v.ObjectSchema<Entries, undefined>>;
/** Without those that are there to be refused. */
export type EncoderEntries = Omit<Output<ReturnType<typeof encoderEntries>>, 'is_decoder' | 'add_cross_attention'>;

/** What a checked configuration says of the blocks' feedforward part. */
const readFeedforward = (json: Output<ReturnType<typeof denseEntries>> | Output<typeof treeEntries>, source: string): FeedforwardConfig =>
  'intermediate_size' in json ? { kind: 'dense', neurons: json.intermediate_size } : fromFeedforwardEntries(json, `${source}: '`);

/** undefined of GELU, which is what there is where nothing is said. */
export function activationOf(name: ActivationName): Activation | undefined {
  const activation = activationNames[name];
  return activation === 'gelu' ? undefined : activation;
}

/** What a checked configuration with BERT's keys says. */
export function fromEncoderEntries(json: EncoderEntries & { model_type: string }, feedforward: FeedforwardConfig): ModelConfig {
  const labelNames = labelNamesOf(json.id2label, json.num_labels);
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
    feedforward,
    activation: activationOf(json.hidden_act),
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
    numLabels: json.num_labels ?? labelNames?.length,
    labelNames,
    // Of a name that it does not know transformers takes no notice either.
    problemType: problemTypes.find((type) => type === json.problem_type),
    scoreFunction: json.sentence_transformers?.activation_fn ?? json.sbert_ce_default_activation_function ?? undefined,
  };
}

/** What a configuration that was not yet checked says of itself. */
export const modelTypeOf = (json: unknown): unknown => (json as { model_type?: unknown }).model_type;

/** The name of transformers' class, BertForMaskedLM say. */
export const architectureOf = (name: string, task: Task): string =>
  `${name}${{ 'causal-lm': 'ForCausalLM', 'masked-lm': 'ForMaskedLM', 'sequence-classification': 'ForSequenceClassification', encoder: 'Model' }[task]}`;

/** The neurons of dense layers, under transformers' name, or what trees there are. `dense`: the type is one that has dense layers alone. */
export const toFeedforward = (feedforward: FeedforwardConfig, dense: boolean, key = 'intermediate_size'): Record<string, unknown> =>
  dense && feedforward.kind === 'dense' ? { [key]: feedforward.neurons } : toFeedforwardEntries(feedforward);

/** What is said of labels, the same way by every family. */
export const toLabelEntries = (config: ModelConfig): Record<string, unknown> => ({
  ...(config.labelNames ? labelEntries(config.labelNames) : config.numLabels === undefined ? {} : { num_labels: config.numLabels }),
  ...problemEntry(config),
  ...(config.scoreFunction && { sentence_transformers: { activation_fn: config.scoreFunction } }),
});

/** The inverse of {@link fromEncoderEntries}. `name`: of transformers' classes. */
function toEncoderEntries(config: ModelConfig, name: string, task: Task, dense: boolean): Record<string, unknown> {
  const { dropout } = config;
  return {
    architectures: [architectureOf(name, task)],
    model_type: config.family,
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    num_hidden_layers: config.numHiddenLayers,
    num_attention_heads: config.numAttentionHeads,
    ...toFeedforward(config.feedforward, dense),
    hidden_act: activationName(config),
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
    ...toLabelEntries(config),
  };
}

/** The configurations of a family that has BERT's keys, with dense layers and with trees. `name`: of transformers' classes. */
export function bertConfiguration(
  modelTypes: Family['modelTypes'],
  name: string,
  defaults: Defaults = {},
): Pick<Family, 'modelTypes' | 'readConfig' | 'writeConfig'> {
  const entries = encoderEntries(defaults);
  const dense = v.object({ ...entries, model_type: v.literal(modelTypes.dense), ...denseEntries(defaults) });
  const trees = v.object({ ...entries, model_type: v.literal(modelTypes.trees), ...treeEntries });
  return {
    modelTypes,
    readConfig(json, source) {
      const checked = validate(modelTypeOf(json) === modelTypes.dense ? dense : trees, json, source);
      return fromEncoderEntries(checked, readFeedforward(checked, source));
    },
    writeConfig(config, task) {
      const isDense = config.family === modelTypes.dense;
      return toEncoderEntries(config, `${isDense ? '' : 'UltraFast'}${name}`, task, isDense);
    },
  };
}

/** The names that the blocks of BERT and its kin have. */
export function bertBlockNames(block: string) {
  const self = `${block}.attention.self`;
  return {
    norm1: `${block}.attention.output.LayerNorm`,
    norm2: `${block}.output.LayerNorm`,
    queryKeyValue: [`${self}.query`, `${self}.key`, `${self}.value`] as const,
    attentionDense: `${block}.attention.output.dense`,
    up: `${block}.intermediate.dense`,
    down: `${block}.output.dense`,
    fastFeedforward: `${block}.ffn`,
  };
}

/** Those of their embeddings and blocks; `prefix` before all of them. */
export const bertEncoderNames = (prefix: string) => ({
  word: `${prefix}embeddings.word_embeddings`,
  positions: `${prefix}embeddings.position_embeddings`,
  tokenTypes: `${prefix}embeddings.token_type_embeddings`,
  embeddingNorm: `${prefix}embeddings.LayerNorm`,
  block: (index: number) => bertBlockNames(`${prefix}encoder.layer.${index}`),
});
