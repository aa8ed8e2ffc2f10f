import type { Tensor } from '../backend/tensor.ts';
import type { Block, BlockActivations } from '../nn/block.ts';
import type { Embedding, EmbeddingActivations } from '../nn/embedding.ts';
import { gradientOf } from '../nn/layer.ts';
import type { Norm, NormActivations } from '../nn/layer_norm.ts';
import type { Context, Parameter } from '../nn/parameter.ts';
import type { Sequence } from '../nn/sequence.ts';
import { createBlock, createEmbedding, createNorm } from './blocks.ts';
import type { ModelConfig } from './config.ts';
import { modelNames } from './families/families.ts';
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
  /**
   * Of decoders: the lengths of the documents of which the batch is made, row after row. Tokens see none of other documents, and positions begin
   * with each. Absent: each row is one.
   */
  documents?: Int32Array;
  /** [batch, length], for models with token types; 0 if absent. */
  typeIds?: Int32Array;
}

export interface TransformerActivations {
  sequence: Sequence;
  /** `[tokens, hidden]`: the last block's output, after the final norm where the model has one. */
  output: Tensor;
  /** What each block hands to the next, [tokens, hidden]: the embedding's output first, then every block's. In training, or if asked for. */
  hiddenStates: Tensor[];
  /** The rest is kept in training. */
  embedding?: EmbeddingActivations;
  blocks: BlockActivations[];
  finalNorm?: NormActivations;
}

/** Gradients of a loss with respect to what a transformer gave. */
export interface TransformerGradients {
  /** Of `output`, [tokens, hidden]; used up. */
  output?: Tensor;
  /** Of any of `hiddenStates`, by the same index; only read. */
  hiddenStates?: readonly (Tensor | undefined)[];
}

/** Embedding, blocks and final norm: what encoders and decoders have in common. Activations lie in the context's arena: whoever owns it resets it before the next pass. */
export abstract class Transformer {
  readonly parameters: readonly Parameter[];
  readonly embedding: Embedding;
  readonly blocks: readonly Block[];
  readonly finalNorm?: Norm;
  /** Of a sinusoid. */
  private readonly positionTable?: Tensor;

  constructor(
    readonly config: ModelConfig,
    factory: ParameterFactory,
    names: ModelNames = modelNames(config),
  ) {
    const first = factory.parameters.length;
    this.embedding = createEmbedding(config, factory, names);
    const { position } = this.embedding;
    if (position && 'table' in position) this.positionTable = position.table;
    this.blocks = Array.from({ length: config.numHiddenLayers }, (_, index) => createBlock(config, factory, names, index));
    const { finalNorm } = names;
    if (finalNorm !== undefined) this.finalNorm = createNorm(config, factory, finalNorm);
    this.parameters = factory.parameters.slice(first);
  }

  /** Tokens to hidden states. Throws InputError if an id, a type or the length does not fit the model. */
  forward(context: Context, batch: Batch, options: { hiddenStates?: boolean } = {}): TransformerActivations {
    return this.run(context, this.sequence(context, batch), options);
  }

  /** The rows of the output in which tokens at `positions` (indices into batch x length) are. */
  rowsAt(_batch: Batch, positions: Int32Array): Int32Array {
    return positions;
  }

  /** `ofBlock`: the sequence as a block sees it, with what it keeps of keys and values. */
  protected run(
    context: Context,
    sequence: Sequence,
    options: { hiddenStates?: boolean } = {},
    ofBlock: (index: number) => Sequence = () => sequence,
  ): TransformerActivations {
    const { arena } = context;
    const shape = [sequence.ids.size, this.config.hiddenSize];
    const keep = context.training || options.hiddenStates === true;
    const embedding = this.embedding.forward(context, sequence, arena.tensor('hidden', shape));
    const hiddenStates = [embedding.output];
    const blocks: BlockActivations[] = [];
    let hidden = embedding.output;
    this.blocks.forEach((block, index) => {
      // Without keeping, one buffer goes through all blocks.
      const activations = block.forward(context, ofBlock(index), hidden, keep ? arena.tensor('hidden', shape) : hidden);
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
  backward(context: Context, activations: TransformerActivations, gradients: TransformerGradients): void {
    const { device, arena } = context;
    const { sequence, output } = activations;
    const parts = [this.embedding, ...this.blocks, ...(this.finalNorm ? [this.finalNorm] : [])];
    const lowest = parts.findIndex(({ parameters }) => parameters.some(gradientOf));
    if (lowest < 0) return;
    const mark = arena.mark();
    const gradient = gradients.output ?? arena.tensor('hidden gradient', output.shape);
    if (!gradients.output) device.fill({ output: gradient, value: 0 });
    else if (this.finalNorm && activations.finalNorm) {
      this.finalNorm.backward(context, activations.finalNorm, gradient, { tensor: gradient });
      context.onGradients?.(this.finalNorm.parameters);
    }
    for (let index = this.blocks.length; index >= lowest; index--) {
      const own = gradients.hiddenStates?.[index];
      if (own) device.add({ a: gradient, b: own, output: gradient });
      if (index > 0) {
        this.blocks[index - 1].backward(context, sequence, activations.blocks[index - 1], gradient);
        context.onGradients?.(this.blocks[index - 1].parameters);
      } else this.embedding.backward(context, sequence, activations.embedding!, gradient);
    }
    arena.release(mark);
  }

  /**
   * Runs every block by itself, block i on inputs[i] [tokens, hidden] instead of what the one before gave: how layers are fitted to
   * those of another model. The activations have no embedding and no final norm.
   */
  forwardBlocks(context: Context, batch: Batch, inputs: readonly Tensor[]): TransformerActivations {
    const sequence = this.sequence(context, batch);
    const blocks = this.blocks.map((block, i) =>
      block.forward(context, sequence, inputs[i], context.arena.tensor('hidden', inputs[i].shape)),
    );
    const hiddenStates = [inputs[0], ...blocks.map(({ output }) => output)];
    return { sequence, output: hiddenStates[blocks.length], hiddenStates, blocks };
  }

  /** Adds to the gradients of the blocks' feedforward halves after {@link forwardBlocks}; gradients[i] of block i's output is used up. */
  backwardBlocks(context: Context, { sequence, blocks }: TransformerActivations, gradients: readonly Tensor[]): void {
    this.blocks.forEach((block, i) => {
      block.backward(context, sequence, blocks[i], gradients[i], { feedforwardOnly: true });
      context.onGradients?.(block.parameters);
    });
  }

  dispose(): void {
    for (const parameter of this.parameters) parameter.dispose();
    this.positionTable?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Checks the batch and writes it to the device. */
  protected abstract sequence(context: Context, batch: Batch): Sequence;
}
