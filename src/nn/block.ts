import type { Dropout } from '../backend/dropout.ts';
import type { Tensor } from '../backend/tensor.ts';
import { dropoutAt, type Target } from './layer.ts';
import type { Norm, NormActivations } from './layer_norm.ts';
import type { Context, Parameter } from './parameter.ts';
import type { SelfAttention, SelfAttentionActivations } from './self_attention.ts';
import type { Sequence } from './sequence.ts';

/** A block's feedforward part: trees, a dense layer, both side by side, or a layer that is put around one of these. */
export interface Feedforward {
  readonly parameters: readonly Parameter[];
  /** input, output [tokens, width]. */
  forward(context: Context, input: Tensor, target?: Target): FeedforwardActivations;
  /** Adds to the parameters' gradients. `activations`: what its own forward gave. Returns the input's gradient [tokens, width]. */
  backward(context: Context, activations: FeedforwardActivations, gradOutput: Tensor): Tensor;
}

export interface FeedforwardActivations {
  /** [tokens, width]. */
  output: Tensor;
}

/** The layers of a block. */
export interface BlockLayers {
  attention: SelfAttention;
  norm1: Norm;
  /** Absent: the block is attention alone. */
  feedforward?: Feedforward;
  /** Absent in a pre-norm block without feedforward, where nothing comes after it. */
  norm2?: Norm;
}

export interface BlockActivations {
  norm1: NormActivations;
  attention: SelfAttentionActivations;
  norm2?: NormActivations;
  feedforward?: FeedforwardActivations;
  /** [tokens, width]. */
  output: Tensor;
}

/**
 * A transformer block. Pre-norm (crammedBERT): x += attention(norm1(x)); x += feedforward(norm2(x)).
 * Post-norm (BERT): x = norm1(x + attention(x)); x = norm2(x + feedforward(x)). Dropout on what joins x.
 */
export class Block {
  constructor(
    readonly layers: BlockLayers,
    readonly placement: 'pre' | 'post',
    readonly dropout: { probability: number; attentionProbability?: number; attentionSite: number; feedforwardSite: number },
  ) {}

  get parameters(): readonly Parameter[] {
    const { attention, norm1, feedforward, norm2 } = this.layers;
    return [attention, norm1, feedforward, norm2].flatMap((layer) => layer?.parameters ?? []);
  }

  /** input [tokens, width]; output, of the same shape. In inference it may be input, and the scratch is released before it returns. */
  forward(context: Context, sequence: Sequence, input: Tensor, output: Tensor): BlockActivations {
    const { attention, feedforward, norm1, norm2 } = this.layers;
    const mark = context.arena.mark();
    const feed = (from: Tensor, normed: Tensor, sum: Tensor) =>
      feedforward &&
      addBranch(context, from, sum, this.feedforwardDropout(context), (target) => feedforward.forward(context, normed, target));
    let activations: BlockActivations;
    if (this.placement === 'pre') {
      const normed1 = norm1.forward(context, input);
      // In training norm2's backward needs the sum between the two halves; in inference the output itself can hold it.
      const middle = context.training && feedforward ? context.arena.tensor('block middle', input.shape) : output;
      const attended = addBranch(context, input, middle, this.attentionDropout(context), (target) =>
        attention.forward(context, sequence, normed1.output, target),
      );
      const normed2 = norm2?.forward(context, middle);
      const fed = normed2 && feed(middle, normed2.output, output);
      activations = { norm1: normed1, attention: attended, norm2: normed2, feedforward: fed, output };
    } else {
      const sum1 = context.training ? context.arena.tensor('block sum 1', input.shape) : output;
      const attended = addBranch(context, input, sum1, this.attentionDropout(context), (target) =>
        attention.forward(context, sequence, input, target),
      );
      const normed1 = norm1.forward(context, sum1);
      const middle = normed1.output;
      const sum2 = feedforward ? context.arena.tensor('block sum 2', input.shape) : middle;
      const fed = feed(middle, middle, sum2);
      const normed2 = norm2?.forward(context, sum2, output);
      activations = { norm1: normed1, attention: attended, norm2: normed2, feedforward: fed, output };
    }
    if (!context.training) context.arena.release(mark);
    return activations;
  }

  /**
   * Turns `gradient` [tokens, width] from the output's into the input's, in place, and adds to the parameters' gradients. With
   * `feedforwardOnly` it comes no further than to the feedforward half's, for blocks that are trained by themselves.
   */
  backward(
    context: Context,
    sequence: Sequence,
    activations: BlockActivations,
    gradient: Tensor,
    options: { feedforwardOnly?: boolean } = {},
  ): void {
    const { norm1, norm2, feedforward, attention } = this.layers;
    const ofAttention = (gradOutput: Tensor) => attention.backward(context, sequence, activations.attention, gradOutput);
    if (norm2 && activations.norm2) {
      const { feedforward: fed } = activations;
      const branch = feedforward && fed && ((gradOutput: Tensor) => feedforward.backward(context, fed, gradOutput));
      this.halfBackward(context, { norm: norm2, normed: activations.norm2, dropout: this.feedforwardDropout(context), branch }, gradient);
    }
    if (options.feedforwardOnly) return;
    const half = { norm: norm1, normed: activations.norm1, dropout: this.attentionDropout(context), branch: ofAttention };
    this.halfBackward(context, half, gradient);
  }

  private halfBackward(context: Context, { norm, normed, dropout, branch }: Half, gradient: Tensor): void {
    const { device, arena } = context;
    const mark = arena.mark();
    if (this.placement === 'post') norm.backward(context, normed, gradient, { tensor: gradient });
    if (branch) {
      let gradBranch = gradient;
      if (dropout) {
        gradBranch = arena.tensor('branch gradient', gradient.shape);
        device.dropout({ input: gradient, output: gradBranch, dropout });
      }
      const gradInput = branch(gradBranch);
      if (this.placement === 'pre') norm.backward(context, normed, gradInput, { tensor: gradient, accumulate: true });
      else device.add({ a: gradient, b: gradInput, output: gradient });
    }
    arena.release(mark);
  }

  private attentionDropout(context: Context): Dropout | undefined {
    return dropoutAt(context, this.dropout.attentionSite, this.dropout.attentionProbability ?? this.dropout.probability);
  }

  private feedforwardDropout(context: Context): Dropout | undefined {
    return dropoutAt(context, this.dropout.feedforwardSite, this.dropout.probability);
  }
}

/** One half of a block: a norm and what it feeds, or what it comes after. */
interface Half {
  norm: Norm;
  normed: NormActivations;
  dropout: Dropout | undefined;
  /** The branch's backward: from its output's gradient to its input's. Absent: the norm is all there is. */
  branch?: (gradOutput: Tensor) => Tensor;
}

/** sum = input + dropout(branch's output); `sum` may be `input`. Without dropout the branch adds itself to a copy of the input. */
function addBranch<Activations extends { output: Tensor }>(
  context: Context,
  input: Tensor,
  sum: Tensor,
  dropout: Dropout | undefined,
  branch: (target?: Target) => Activations,
): Activations {
  const { device } = context;
  if (!dropout) {
    if (sum !== input) device.copy({ input, output: sum });
    return branch({ tensor: sum, accumulate: true });
  }
  const activations = branch();
  device.dropout({ input: activations.output, output: activations.output, dropout });
  device.add({ a: input, b: activations.output, output: sum });
  return activations;
}
