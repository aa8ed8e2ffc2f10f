/** A model's embedding and blocks, as its configuration and its family's names ask for them. */
import { Block, type BlockLayers } from '../nn/block.ts';
import { DenseFeedforward } from '../nn/dense_feedforward.ts';
import { Embedding, type LearnedPositions, type ScaledSinusoid, sinusoid } from '../nn/embedding.ts';
import { ParallelFeedforward } from '../nn/parallel_feedforward.ts';
import { SelfAttention } from '../nn/self_attention.ts';
import type { ModelConfig } from './config.ts';
import { familyOf } from './families/families.ts';
import type { ModelNames } from './families/family.ts';
import type { ParameterFactory } from './parameter_factory.ts';

export function createEmbedding(config: ModelConfig, factory: ParameterFactory, names: ModelNames): Embedding {
  const {
    hiddenSize,
    embeddingSize: width = hiddenSize,
    vocabSize: vocabularySize,
    typeVocabSize: tokenTypes,
    padTokenId: padId,
    positionOffset = 0,
    initializerRange: normal,
  } = config;
  const positions = config.maxPositionEmbeddings + positionOffset;
  const word = factory.plain(`${names.word}.weight`, [vocabularySize, width], { normal, zeroRow: padId });
  // A step's texts have few of the vocabulary's words.
  word.rowMask = factory.device.zeros(`${names.word} row mask`, [vocabularySize], 'i32');
  let position: ScaledSinusoid | LearnedPositions;
  if (names.positionScale !== undefined) {
    const scale = factory.plain(names.positionScale, [1], { constant: 1 / Math.sqrt(width) });
    position = { scale, table: factory.constant('sinusoid', [positions, width], sinusoid(positions, width)) };
  } else {
    const padding = positionOffset > 0 ? positionOffset - 1 : undefined;
    const table = factory.plain(`${names.positions}.weight`, [positions, width], { normal, zeroRow: padding });
    const types = tokenTypes > 0 ? factory.plain(`${names.tokenTypes}.weight`, [tokenTypes, width], { normal }) : undefined;
    position = { positions: table, padding, tokenTypes: types };
  }
  const norm = factory.norm(names.embeddingNorm, width, config.layerNormEps);
  const projection =
    names.projection !== undefined && width !== hiddenSize
      ? factory.linear(names.projection, hiddenSize, width, { deviation: normal, bias: true })
      : undefined;
  return new Embedding(word, position, norm, padId, { probability: config.dropout.embedding, site: 0 }, projection);
}

export function createBlock(config: ModelConfig, factory: ParameterFactory, modelNames: ModelNames, index: number): Block {
  const {
    hiddenSize: width,
    numAttentionHeads: heads,
    bias,
    feedforward,
    activation = 'gelu',
    layerNormEps: normEpsilon,
    initializerRange: deviation,
    dropout,
  } = config;
  const names = modelNames.block(index);
  const site = 1 + 3 * index;
  const attention = new SelfAttention(
    factory.queryKeyValue(names.queryKeyValue, { width, heads, deviation, bias: bias.queryKeyValue }),
    factory.linear(names.attentionDense, width, width, { deviation, bias: bias.dense }),
    heads,
    { probability: dropout.attention, site },
  );
  const norm1 = factory.norm(names.norm1, width, normEpsilon);
  const dense = (up: string, down: string, neurons: number) =>
    new DenseFeedforward(
      factory.linear(up, neurons, width, { deviation, bias: bias.dense, activation }),
      factory.linear(down, width, neurons, { deviation, bias: bias.dense }),
    );
  let layer: BlockLayers['feedforward'];
  if (feedforward.kind === 'dense') layer = dense(names.up, names.down, feedforward.neurons);
  else if (feedforward.kind === 'fff') {
    const name = names.fastFeedforward;
    const trees = factory.fastFeedforward(name, { width, ...feedforward }, deviation);
    const { alwaysOn } = feedforward;
    layer = alwaysOn ? new ParallelFeedforward(trees, dense(`${name}.dense_in`, `${name}.dense_out`, alwaysOn)) : trees;
  }
  const { normPlacement: placement } = familyOf(config);
  const norm2 = layer || placement === 'post' ? factory.norm(names.norm2, width, normEpsilon) : undefined;
  return new Block({ attention, norm1, feedforward: layer, norm2 }, placement, {
    probability: dropout.hidden,
    attentionProbability: dropout.attentionOutput,
    attentionSite: site + 1,
    feedforwardSite: site + 2,
  });
}
