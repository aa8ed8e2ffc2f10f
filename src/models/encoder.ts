import type { Tensor } from '../backend/tensor.ts';
import { InputError } from '../errors.ts';
import { Block, type BlockActivations, type BlockLayers } from '../nn/block.ts';
import { DenseFeedforward } from '../nn/dense_feedforward.ts';
import { Embedding, type EmbeddingActivations, type LearnedPositions, type ScaledSinusoid, sinusoid } from '../nn/embedding.ts';
import { gradientOf } from '../nn/layer.ts';
import type { LayerNorm, LayerNormActivations } from '../nn/layer_norm.ts';
import { ParallelFeedforward } from '../nn/parallel_feedforward.ts';
import type { Context, Parameter } from '../nn/parameter.ts';
import { SelfAttention } from '../nn/self_attention.ts';
import type { Sequence } from '../nn/sequence.ts';
import type { ModelConfig } from './config.ts';
import { familyOf, modelNames } from './families/families.ts';
import type { ModelNames } from './families/family.ts';
import type { ParameterFactory } from './parameter_factory.ts';

/** Token sequences of one length, padded where they are shorter. */
export interface Batch {
  /** Sequences. */
  batch: number;
  /** Positions of each. */
  length: number;
  /** [batch, length]. */
  ids: Int32Array;
  /** [batch, length]; 0 marks padding. Absent: nothing is padding. */
  attentionMask?: Int32Array;
  /** [batch, length], for models with token types; 0 if absent. */
  typeIds?: Int32Array;
}

export interface EncoderActivations {
  sequence: Sequence;
  /** `[tokens, hidden]`: the last block's output, after the final norm where the model has one. */
  output: Tensor;
  /** What each block hands to the next, [tokens, hidden]: the embedding's output first, then every block's. In training, or if asked for. */
  hiddenStates: Tensor[];
  /** The rest is kept in training. */
  embedding?: EmbeddingActivations;
  blocks: BlockActivations[];
  finalNorm?: LayerNormActivations;
}

/** Gradients of a loss with respect to what an encoder gave. */
export interface EncoderGradients {
  /** Of `output`, [tokens, hidden]; used up. */
  output?: Tensor;
  /** Of any of `hiddenStates`, by the same index; only read. */
  hiddenStates?: readonly (Tensor | undefined)[];
}

/** Embedding and blocks. Activations lie in the context's arena: whoever owns it resets it before the next pass. */
export class Encoder {
  readonly task = 'encoder';
  readonly parameters: readonly Parameter[];
  readonly embedding: Embedding;
  readonly blocks: readonly Block[];
  readonly finalNorm?: LayerNorm;
  /** Of a sinusoid. */
  private readonly positionTable?: Tensor;

  constructor(
    readonly config: ModelConfig,
    factory: ParameterFactory,
    names: ModelNames = modelNames(config),
  ) {
    const first = factory.parameters.length;
    this.embedding = createEmbedding(config, factory, names);
    if ('table' in this.embedding.position) this.positionTable = this.embedding.position.table;
    this.blocks = Array.from({ length: config.numHiddenLayers }, (_, index) => createBlock(config, factory, names, index));
    const { finalNorm } = names;
    if (finalNorm !== undefined) this.finalNorm = factory.norm(finalNorm, config.hiddenSize, config.layerNormEps);
    this.parameters = factory.parameters.slice(first);
  }

  /** Tokens to hidden states. Throws InputError if an id, a type or the length does not fit the model. */
  forward(context: Context, batch: Batch, options: { hiddenStates?: boolean } = {}): EncoderActivations {
    const { arena } = context;
    const sequence = this.upload(context, batch);
    const shape = [sequence.ids.size, this.config.hiddenSize];
    const keep = context.training || options.hiddenStates === true;
    const embedding = this.embedding.forward(context, sequence, arena.tensor('hidden', shape));
    const hiddenStates = [embedding.output];
    const blocks: BlockActivations[] = [];
    let hidden = embedding.output;
    this.blocks.forEach((block) => {
      // Without keeping, one buffer goes through all blocks.
      const activations = block.forward(context, sequence, hidden, keep ? arena.tensor('hidden', shape) : hidden);
      hidden = activations.output;
      if (keep) hiddenStates.push(hidden);
      if (context.training) blocks.push(activations);
    });
    const finalNorm = this.finalNorm?.forward(context, hidden);
    const output = finalNorm?.output ?? hidden;
    return {
      sequence,
      output,
      hiddenStates: keep ? hiddenStates : [],
      embedding: context.training ? embedding : undefined,
      blocks,
      finalNorm,
    };
  }

  /**
   * Adds to the gradients of all parameters, from the gradients of the output, of hidden states, or both. Frozen parameters, and
   * blocks with nothing but frozen parameters in and below them, cost nothing.
   */
  backward(context: Context, activations: EncoderActivations, gradients: EncoderGradients): void {
    const { device, arena } = context;
    const { sequence, output } = activations;
    const parts = [this.embedding, ...this.blocks, ...(this.finalNorm ? [this.finalNorm] : [])];
    const lowest = parts.findIndex(({ parameters }) => parameters.some(gradientOf));
    if (lowest < 0) return;
    const mark = arena.mark();
    const gradient = gradients.output ?? arena.tensor('hidden gradient', output.shape);
    if (!gradients.output) device.fill({ output: gradient, value: 0 });
    else if (this.finalNorm && activations.finalNorm)
      this.finalNorm.backward(context, activations.finalNorm, gradient, { tensor: gradient });
    for (let index = this.blocks.length; index >= lowest; index--) {
      const own = gradients.hiddenStates?.[index];
      if (own) device.add({ a: gradient, b: own, output: gradient });
      if (index > 0) this.blocks[index - 1].backward(context, sequence, activations.blocks[index - 1], gradient);
      else this.embedding.backward(context, sequence, activations.embedding!, gradient);
    }
    arena.release(mark);
  }

  /**
   * Runs every block by itself, block i on inputs[i] [tokens, hidden] instead of what the one before gave: how layers are fitted to
   * those of another model. The activations have no embedding and no final norm.
   */
  forwardBlocks(context: Context, batch: Batch, inputs: readonly Tensor[]): EncoderActivations {
    const sequence = this.upload(context, batch);
    const blocks = this.blocks.map((block, i) =>
      block.forward(context, sequence, inputs[i], context.arena.tensor('hidden', inputs[i].shape)),
    );
    const hiddenStates = [inputs[0], ...blocks.map(({ output }) => output)];
    return { sequence, output: hiddenStates[blocks.length], hiddenStates, blocks };
  }

  /** Adds to the gradients of the blocks' feedforward halves after {@link forwardBlocks}; gradients[i] of block i's output is used up. */
  backwardBlocks(context: Context, { sequence, blocks }: EncoderActivations, gradients: readonly Tensor[]): void {
    this.blocks.forEach((block, i) => {
      block.backward(context, sequence, blocks[i], gradients[i], { feedforwardOnly: true });
    });
  }

  dispose(): void {
    for (const parameter of this.parameters) parameter.dispose();
    this.positionTable?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private upload(context: Context, batch: Batch): Sequence {
    const { device, arena } = context;
    checkBatch(batch, this.config);
    const tokens = batch.batch * batch.length;
    const integers = (name: string, values: Int32Array) => {
      const tensor = arena.tensor(name, [tokens], 'i32');
      device.write(tensor, values);
      return tensor;
    };
    return {
      batch: batch.batch,
      length: batch.length,
      ids: integers('ids', batch.ids),
      positions: integers('positions', positionsOf(batch, this.config)),
      typeIds: this.config.typeVocabSize > 0 ? integers('type ids', batch.typeIds ?? new Int32Array(tokens)) : undefined,
      paddingMask: batch.attentionMask?.includes(0) ? integers('attention mask', batch.attentionMask) : undefined,
    };
  }
}

function createEmbedding(config: ModelConfig, factory: ParameterFactory, names: ModelNames): Embedding {
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

function createBlock(config: ModelConfig, factory: ParameterFactory, modelNames: ModelNames, index: number): Block {
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

/** The dropout site after the encoder's own, for a pooler. */
export function poolerDropoutSite(config: ModelConfig): number {
  return 1 + 3 * config.numHiddenLayers;
}

/** The row of the position table for each token. Counted from an offset, padding has the row before, and does not count (RoBERTa). */
function positionsOf({ ids, length }: Batch, { positionOffset = 0, padTokenId }: ModelConfig): Int32Array {
  if (positionOffset === 0) return ids.map((_, token) => token % length);
  let next = positionOffset;
  return ids.map((id, token) => {
    if (token % length === 0) next = positionOffset;
    return id === padTokenId ? positionOffset - 1 : next++;
  });
}

function checkBatch(batch: Batch, config: ModelConfig): void {
  const { batch: sequences, length, ids, attentionMask, typeIds } = batch;
  for (const [name, value] of Object.entries({ batch: sequences, length })) {
    if (!Number.isSafeInteger(value) || value < 1) throw new InputError(`batch: '${name}' is ${value}, expected a count of at least 1`);
  }
  if (length > config.maxPositionEmbeddings)
    throw new InputError(`a sequence of ${length} tokens is longer than the model's ${config.maxPositionEmbeddings} positions: shorten it`);
  for (const [name, values] of Object.entries({ ids, attentionMask, typeIds })) {
    if (values && values.length !== sequences * length) {
      throw new InputError(`batch: '${name}' has ${values.length} values, expected batch x length = ${sequences * length}`);
    }
  }
  const check = (what: string, values: Int32Array, limit: number) => {
    const at = values.findIndex((value) => !(Number.isInteger(value) && value >= 0 && value < limit));
    if (at >= 0)
      throw new InputError(
        `${what} ${values[at]} at token ${at} is not one of the model's ${limit} (0 to ${limit - 1}): does the tokenizer belong to the model?`,
      );
  };
  check('token id', ids, config.vocabSize);
  if (typeIds && config.typeVocabSize > 0) check('token type', typeIds, config.typeVocabSize);
}
