/** A model's embedding and blocks, as its configuration and its family's names ask for them. */
import type { Activation } from '../nn/activation.ts';
import { Block, type Feedforward } from '../nn/block.ts';
import { DenseFeedforward } from '../nn/dense_feedforward.ts';
import { Embedding, type LearnedPositions, type ScaledSinusoid, sinusoid } from '../nn/embedding.ts';
import { GatedFeedforward } from '../nn/gated_feedforward.ts';
import type { Norm } from '../nn/layer_norm.ts';
import { ParallelFeedforward } from '../nn/parallel_feedforward.ts';
import { SelfAttention } from '../nn/self_attention.ts';
import type { ModelConfig } from './config.ts';
import { familyOf } from './families/families.ts';
import type { BlockNames, ModelNames } from './families/family.ts';
import type { ParameterFactory } from './parameter_factory.ts';

export function createEmbedding(config: ModelConfig, factory: ParameterFactory, names: ModelNames): Embedding {
  const { hiddenSize, embeddingSize: width = hiddenSize, vocabSize: vocabularySize, padTokenId: padId, initializerRange: normal } = config;
  const word = factory.plain(`${names.word}.weight`, [vocabularySize, width], { normal, zeroRow: padId });
  // A step's texts have few of the vocabulary's words.
  word.rowMask = factory.device.zeros(`${names.word} row mask`, [vocabularySize], 'i32');
  const position = createPositions(config, factory, names, width);
  const norm = names.embeddingNorm === undefined ? undefined : factory.norm(names.embeddingNorm, width, config.layerNormEps);
  const projection =
    names.projection !== undefined && width !== hiddenSize
      ? factory.linear(names.projection, hiddenSize, width, { deviation: normal, bias: true })
      : undefined;
  return new Embedding(word, position, norm, padId, { probability: config.dropout.embedding, site: 0 }, projection);
}

function createPositions(
  { maxPositionEmbeddings, positionOffset = 0, typeVocabSize, initializerRange: normal, rotary }: ModelConfig,
  factory: ParameterFactory,
  names: ModelNames,
  width: number,
): ScaledSinusoid | LearnedPositions | undefined {
  if (rotary) return undefined;
  const positions = maxPositionEmbeddings + positionOffset;
  if (names.positionScale !== undefined) {
    const scale = factory.plain(names.positionScale, [1], { constant: 1 / Math.sqrt(width) });
    return { scale, table: factory.constant('sinusoid', [positions, width], sinusoid(positions, width)) };
  }
  const padding = positionOffset > 0 ? positionOffset - 1 : undefined;
  const table = factory.plain(`${names.positions}.weight`, [positions, width], { normal, zeroRow: padding });
  const tokenTypes = typeVocabSize > 0 ? factory.plain(`${names.tokenTypes}.weight`, [typeVocabSize, width], { normal }) : undefined;
  return { positions: table, padding, tokenTypes };
}

/** A norm of the hidden states, of the kind that the family has. */
export function createNorm(config: ModelConfig, factory: ParameterFactory, name: string): Norm {
  const { hiddenSize, layerNormEps } = config;
  return familyOf(config).decoder?.norm === 'rms'
    ? factory.rmsNorm(name, hiddenSize, layerNormEps)
    : factory.norm(name, hiddenSize, layerNormEps);
}

export function createBlock(config: ModelConfig, factory: ParameterFactory, modelNames: ModelNames, index: number): Block {
  const names = modelNames.block(index);
  const { normPlacement: placement } = familyOf(config);
  const { dropout } = config;
  const site = 1 + 3 * index;
  const attention = createAttention(config, factory, names, site);
  const norm1 = createNorm(config, factory, names.norm1);
  const feedforward = createFeedforward(config, factory, names);
  const norm2 = feedforward || placement === 'post' ? createNorm(config, factory, names.norm2) : undefined;
  return new Block({ attention, norm1, feedforward, norm2 }, placement, {
    probability: dropout.hidden,
    attentionProbability: dropout.attentionOutput,
    attentionSite: site + 1,
    feedforwardSite: site + 2,
  });
}

function createAttention(config: ModelConfig, factory: ParameterFactory, names: BlockNames, site: number): SelfAttention {
  const { hiddenSize: width, numAttentionHeads: heads, bias, initializerRange: deviation } = config;
  const dropout = { probability: config.dropout.attention, site };
  const { decoder } = familyOf(config);
  if (!decoder) {
    const queryKeyValue = factory.queryKeyValue(names.queryKeyValue, { width, heads, deviation, bias: bias.queryKeyValue });
    const dense = factory.linear(names.attentionDense, width, width, { deviation, bias: bias.dense });
    return new SelfAttention(queryKeyValue, dense, heads, dropout);
  }
  const { keyValueHeads, headSize } = headsOf(config);
  const { transposed } = decoder;
  const [queries, keys] = [heads * headSize, keyValueHeads * headSize];
  const shape = { inputs: width, queries, keys, deviation, bias: bias.queryKeyValue, transposed };
  const queryKeyValue = factory.queriesKeysValues(names.queryKeyValue, shape);
  const dense = factory.linear(names.attentionDense, width, queries, { deviation: joiningDeviation(config), bias: bias.dense, transposed });
  return new SelfAttention(queryKeyValue, dense, heads, dropout, keyValueHeads);
}

function createFeedforward(config: ModelConfig, factory: ParameterFactory, names: BlockNames): Feedforward | undefined {
  const { hiddenSize: width, bias, feedforward, initializerRange: deviation, activation = 'gelu' } = config;
  const transposed = familyOf(config).decoder?.transposed;
  const up = (name: string, neurons: number, activation?: Activation) =>
    factory.linear(name, neurons, width, { deviation, bias: bias.dense, activation, transposed });
  const down = (name: string, neurons: number) =>
    factory.linear(name, width, neurons, { deviation: joiningDeviation(config), bias: bias.dense, transposed });
  if (feedforward.kind === 'none') return undefined;
  if (feedforward.kind === 'dense') {
    const { neurons, gated } = feedforward;
    if (!gated) return new DenseFeedforward(up(names.up, neurons, activation), down(names.down, neurons));
    return new GatedFeedforward(up(names.gate as string, neurons, activation), up(names.up, neurons), down(names.down, neurons));
  }
  const name = names.fastFeedforward;
  const trees = factory.fastFeedforward(name, { width, ...feedforward }, deviation);
  const { alwaysOn } = feedforward;
  if (!alwaysOn) return trees;
  const alwaysOnLayer = new DenseFeedforward(up(`${name}.dense_in`, alwaysOn, activation), down(`${name}.dense_out`, alwaysOn));
  return new ParallelFeedforward(trees, alwaysOnLayer);
}

/** Initial deviation of what joins the stream: a decoder's is smaller the more there is of it (GPT-2's report, section 2.3). */
function joiningDeviation(config: ModelConfig): number {
  const { initializerRange, numHiddenLayers } = config;
  return familyOf(config).decoder ? initializerRange / Math.sqrt(2 * numHiddenLayers) : initializerRange;
}

/** Heads of a decoder's keys and values, and elements of a head. */
export function headsOf({ hiddenSize, numAttentionHeads: heads, numKeyValueHeads, headSize }: ModelConfig) {
  return { heads, keyValueHeads: numKeyValueHeads ?? heads, headSize: headSize ?? hiddenSize / heads };
}
