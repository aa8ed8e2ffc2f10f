/** What a model is. */
import { checkArgument, kinds } from '../arguments.ts';
import type { PoolKind } from '../backend/operations/pool.ts';
import { neuronCounts } from '../backend/tree_shape.ts';
import type { Activation } from '../nn/activation.ts';
import type { RotaryPositions } from './rotary_positions.ts';

/**
 * The feedforward part of every block. A dense one may be `gated` (SwiGLU). An FFF's leaves are of `leafWidth` neurons each (1 if absent); beside its trees there may be
 * `alwaysOn` neurons that every token uses, a small dense layer whose output joins theirs. `thresholds` says of a checkpoint that its inner
 * nodes have routing thresholds, not all of them 0. 'none': blocks are attention alone.
 */
export type FeedforwardConfig =
  | { kind: 'dense'; neurons: number; gated?: boolean }
  | { kind: 'fff'; trees: number; depth: number; leafWidth?: number; alwaysOn?: number; thresholds?: boolean }
  | { kind: 'none' };

/** The feedforward part of a kind, from options of which it takes what it needs; `intermediate`: neurons of a dense layer. */
export function feedforwardOf(
  kind: FeedforwardConfig['kind'],
  options: { trees: number; depth: number; leafWidth?: number; alwaysOn?: number; intermediate: number },
): FeedforwardConfig {
  const { trees, depth, leafWidth, alwaysOn, intermediate } = options;
  if (kind === 'none') return { kind };
  return kind === 'dense' ? { kind, neurons: intermediate } : { kind, trees, depth, leafWidth, alwaysOn };
}

/** Neurons of a feedforward layer, and those of them that each token uses. */
export function neuronsOf(feedforward: FeedforwardConfig): { total: number; used: number } {
  if (feedforward.kind === 'none') return { total: 0, used: 0 };
  if (feedforward.kind === 'dense') return { total: feedforward.neurons, used: feedforward.neurons };
  const { total, used } = neuronCounts(feedforward);
  const { alwaysOn = 0 } = feedforward;
  return { total: total + alwaysOn, used: used + alwaysOn };
}

/** A feedforward part in a few words: 1x11, 4x8 leaves of 32, 1x11 and 16 always on, dense 3072, none. */
export function describeFeedforward(feedforward: FeedforwardConfig): string {
  if (feedforward.kind === 'none') return 'none';
  if (feedforward.kind === 'dense') return `dense ${feedforward.neurons}`;
  const { trees, depth, leafWidth = 1, alwaysOn = 0 } = feedforward;
  return `${trees}x${depth}${leafWidth > 1 ? ` leaves of ${leafWidth}` : ''}${alwaysOn > 0 ? ` and ${alwaysOn} always on` : ''}`;
}

/** A model's shape and habits, the same for every family. What else a family is, src/models/families says, one file each. */
export interface ModelConfig {
  /** The checkpoint's `model_type`, one of those in src/models/families: 'crammedBERT', 'bert', 'ultrafastbert' ... */
  family: string;
  vocabSize: number;
  hiddenSize: number;
  numHiddenLayers: number;
  numAttentionHeads: number;
  /** Heads of keys and values, where several of queries share one (decoders); as many as heads if absent. */
  numKeyValueHeads?: number;
  /** Of a head of a decoder; hiddenSize / numAttentionHeads if absent. */
  headSize?: number;
  /** Most positions of a sequence. */
  maxPositionEmbeddings: number;
  /** Rows of the position table before that of a text's first token, the last of them that of padding (RoBERTa); 0 if absent. */
  positionOffset?: number;
  /** Of the embeddings, which a dense layer then maps to the hidden size; absent: they have that. */
  embeddingSize?: number;
  /** Its row of the word embedding gets no gradient from look-ups; absent: every row does. */
  padTokenId?: number;
  /** Rows of the token type embedding; 0 where there is none. */
  typeVocabSize: number;
  feedforward: FeedforwardConfig;
  /** Between the two halves of dense feedforward layers, and, in some families, in the head; 'gelu' if absent. Trees have GELU. */
  activation?: Activation;
  /** Positions by rotation of queries and keys; absent: a table or a sinusoid. */
  rotary?: RotaryPositions;
  /** Tokens that a decoder's texts begin and end with. */
  bosTokenId?: number;
  eosTokenIds?: readonly number[];
  /** Which projections have a bias (an FFF's linear_in always has one, its linear_out never). */
  bias: { queryKeyValue: boolean; dense: boolean };
  layerNormEps: number;
  /** The decoder of a language model has a weight of its own, which is not the word embedding. */
  untiedDecoder?: boolean;
  /** Standard deviation of initial weights. */
  initializerRange: number;
  /** Probabilities, applied when a pass has dropout. */
  dropout: {
    embedding: number;
    attention: number;
    hidden: number;
    classifier: number;
    /** Of what attention adds to the stream; `hidden` if absent. */
    attentionOutput?: number;
  };
  /** Of each sequence, the fraction of positions that masked-LM training predicts. */
  mlmProbability: number;
  /** The pooling and the dense layer before a classification head. */
  pooler: { kind: PoolKind; size: number };
  /** Outputs of the classification head; 1 is regression. Absent where the configuration leaves it open. */
  numLabels?: number;
  /** What the labels are called, in order. */
  labelNames?: string[];
  /** What the outputs are: by default classes that exclude each other, or with one output a number. 'multi_label_classification': each holds or not. */
  problemType?: ProblemType;
  /** What makes scores of a classifier's outputs where sentence-transformers opens it: a class of Python, 'torch.nn.modules.linear.Identity' say. */
  scoreFunction?: string;
}

export const problemTypes = ['regression', 'single_label_classification', 'multi_label_classification'] as const;
export type ProblemType = (typeof problemTypes)[number];

/** What a checkpoint's model is for. */
export type Task = 'causal-lm' | 'masked-lm' | 'sequence-classification' | 'encoder';

/** crammedBERT with FFF, the configuration that `ufb pretrain` starts from; `changes` says what is different. */
export function crammedBertConfig(changes: Partial<ModelConfig> & Pick<ModelConfig, 'vocabSize'>): ModelConfig {
  checkArgument('changes', changes, kinds.object);
  const hiddenSize = changes.hiddenSize ?? 768;
  return {
    family: 'crammedBERT',
    hiddenSize,
    numHiddenLayers: 16,
    numAttentionHeads: 12,
    maxPositionEmbeddings: 128,
    padTokenId: 0,
    typeVocabSize: 0,
    feedforward: { kind: 'fff', trees: 1, depth: 11 },
    bias: { queryKeyValue: false, dense: false },
    layerNormEps: 1e-12,
    initializerRange: 0.02,
    dropout: { embedding: 0.1, attention: 0.1, hidden: 0.1, classifier: 0.1 },
    mlmProbability: 0.25,
    pooler: { kind: 'first', size: hiddenSize },
    ...(Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined)) as typeof changes),
  };
}
