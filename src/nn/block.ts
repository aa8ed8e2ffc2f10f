import type { Dropout } from '../backend/dropout.ts';
import type { Tensor } from '../backend/tensor.ts';
import type { DenseFeedforward, DenseFeedforwardActivations } from './dense_feedforward.ts';
import type { FastFeedforward, FastFeedforwardActivations } from './fast_feedforward.ts';
import { dropoutAt, type Target } from './layer.ts';
import type { LayerNorm, LayerNormActivations } from './layer_norm.ts';
import type { ParallelFeedforward, ParallelFeedforwardActivations } from './parallel_feedforward.ts';
import type { Run } from './parameter.ts';
import type { SelfAttention, SelfAttentionActivations } from './self_attention.ts';
import type { Sequence } from './sequence.ts';

/** The layers of a block. */
export interface BlockLayers {
  attention: SelfAttention;
  norm1: LayerNorm;
  /** Absent: the block is attention alone. */
  feedforward?: FastFeedforward | DenseFeedforward | ParallelFeedforward;
  /** Absent in a pre-norm block without feedforward, where nothing comes after it. */
  norm2?: LayerNorm;
}

export interface BlockActivations {
  norm1: LayerNormActivations;
  attention: SelfAttentionActivations;
  norm2?: LayerNormActivations;
  feedforward?: FastFeedforwardActivations | DenseFeedforwardActivations | ParallelFeedforwardActivations;
  /** [tokens, width]. */
  output: Tensor;
}

/**
 * A transformer block. Pre-norm (crammedBERT): x += attention(norm1(x)); x += feedforward(norm2(x)).
 * Post-norm (BERT): x = norm1(x + attention(x)); x = norm2(x + feedforward(x)). Dropout on what joins x.
 */
export class Block {
  /**
   * [width], taken from each input of the feedforward layer, where it is trained around their mean (src/convert/centring.ts). As the centre
   * follows the mean, what moves all inputs alike changes nothing in the end, and their gradient is given without that part, its mean over
   * the rows: exact for a centre at the mean of these rows, of which none may be padding.
   */
  feedforwardCentre?: readonly number[];

  constructor(
    readonly layers: BlockLayers,
    readonly placement: 'pre' | 'post',
    readonly dropout: { probability: number; attentionSite: number; feedforwardSite: number },
  ) {}

  /** input [tokens, width]; output, of the same shape. In inference it may be input, and the scratch is released before it returns. */
  forward(run: Run, sequence: Sequence, input: Tensor, output: Tensor): BlockActivations {
    const { attention, feedforward, norm1, norm2 } = this.layers;
    const mark = run.arena.mark();
    const feed = (from: Tensor, normed: Tensor, sum: Tensor) =>
      feedforward &&
      addBranch(run, from, sum, this.feedforwardDropout(run), (target) => feedforward.forward(run, this.centred(run, normed), target));
    let activations: BlockActivations;
    if (this.placement === 'pre') {
      const normed1 = norm1.forward(run, input);
      // In training norm2's backward needs the sum between the two halves; in inference the output itself can hold it.
      const middle = run.training && feedforward ? run.arena.tensor('block middle', input.shape) : output;
      const attended = addBranch(run, input, middle, this.attentionDropout(run), (target) =>
        attention.forward(run, sequence, normed1.output, target),
      );
      const normed2 = norm2?.forward(run, middle);
      const fed = normed2 && feed(middle, normed2.output, output);
      activations = { norm1: normed1, attention: attended, norm2: normed2, feedforward: fed, output };
    } else {
      const sum1 = run.training ? run.arena.tensor('block sum 1', input.shape) : output;
      const attended = addBranch(run, input, sum1, this.attentionDropout(run), (target) => attention.forward(run, sequence, input, target));
      const normed1 = norm1.forward(run, sum1);
      const middle = normed1.output;
      const sum2 = feedforward ? run.arena.tensor('block sum 2', input.shape) : middle;
      const fed = feed(middle, middle, sum2);
      const normed2 = norm2?.forward(run, sum2, output);
      activations = { norm1: normed1, attention: attended, norm2: normed2, feedforward: fed, output };
    }
    if (!run.training) run.arena.release(mark);
    return activations;
  }

  /**
   * Turns `gradient` [tokens, width] from the output's into the input's, in place, and adds to the parameters' gradients. With
   * `feedforwardOnly` it comes no further than to the feedforward half's, for blocks that are trained by themselves.
   */
  backward(
    run: Run,
    sequence: Sequence,
    activations: BlockActivations,
    gradient: Tensor,
    options: { feedforwardOnly?: boolean } = {},
  ): void {
    const { norm1, norm2, feedforward, attention } = this.layers;
    const ofFeedforward = (gradOutput: Tensor) => this.feedforwardBackward(run, activations, gradOutput);
    const ofAttention = (gradOutput: Tensor) => attention.backward(run, sequence, activations.attention, gradOutput);
    if (norm2 && activations.norm2) {
      const branch = feedforward && ofFeedforward;
      this.halfBackward(run, { norm: norm2, normed: activations.norm2, dropout: this.feedforwardDropout(run), branch }, gradient);
    }
    if (options.feedforwardOnly) return;
    const half = { norm: norm1, normed: activations.norm1, dropout: this.attentionDropout(run), branch: ofAttention };
    this.halfBackward(run, half, gradient);
  }

  private halfBackward(run: Run, { norm, normed, dropout, branch }: Half, gradient: Tensor): void {
    const { backend, arena } = run;
    const mark = arena.mark();
    if (this.placement === 'post') norm.backward(run, normed, gradient, { tensor: gradient });
    if (branch) {
      let gradBranch = gradient;
      if (dropout) {
        gradBranch = arena.tensor('branch gradient', gradient.shape);
        backend.dropout({ input: gradient, output: gradBranch, dropout });
      }
      const gradInput = branch(gradBranch);
      if (this.placement === 'pre') norm.backward(run, normed, gradInput, { tensor: gradient, accumulate: true });
      else backend.add({ a: gradient, b: gradInput, output: gradient });
    }
    arena.release(mark);
  }

  private feedforwardBackward(run: Run, activations: BlockActivations, gradOutput: Tensor): Tensor {
    // The activations are those of this very layer.
    const layer = this.layers.feedforward as FastFeedforward;
    const gradient = layer.backward(run, activations.feedforward as FastFeedforwardActivations, gradOutput);
    if (this.feedforwardCentre) subtractMean(run, gradient);
    return gradient;
  }

  private centred(run: Run, input: Tensor): Tensor {
    const { backend, arena, watchCentred } = run;
    if (!this.feedforwardCentre) return input;
    const output = arena.tensor('centred', input.shape);
    const mark = arena.mark();
    const centre = arena.tensor('centre', [input.shape[1]]);
    backend.write(centre, this.feedforwardCentre);
    backend.copy({ input, output });
    backend.addRow({ row: centre, output, scale: -1 });
    arena.release(mark);
    watchCentred?.(output);
    return output;
  }

  private attentionDropout(run: Run): Dropout | undefined {
    return dropoutAt(run, this.dropout.attentionSite, this.dropout.probability);
  }

  private feedforwardDropout(run: Run): Dropout | undefined {
    return dropoutAt(run, this.dropout.feedforwardSite, this.dropout.probability);
  }
}

/** One half of a block: a norm and what it feeds, or what it comes after. */
interface Half {
  norm: LayerNorm;
  normed: LayerNormActivations;
  dropout: Dropout | undefined;
  /** The branch's backward: from its output's gradient to its input's. Absent: the norm is all there is. */
  branch?: (gradOutput: Tensor) => Tensor;
}

function subtractMean(run: Run, values: Tensor): void {
  const { backend, arena } = run;
  const width = values.shape[1];
  const mark = arena.mark();
  const mean = arena.tensor('mean', [width]);
  backend.columnMean({ input: values, output: mean });
  backend.addRow({ row: mean, output: values, scale: -1 });
  arena.release(mark);
}

/** sum = input + dropout(branch's output); `sum` may be `input`. Without dropout the branch adds itself to a copy of the input. */
function addBranch<Activations extends { output: Tensor }>(
  run: Run,
  input: Tensor,
  sum: Tensor,
  dropout: Dropout | undefined,
  branch: (target?: Target) => Activations,
): Activations {
  const { backend } = run;
  if (!dropout) {
    if (sum !== input) backend.copy({ input, output: sum });
    return branch({ tensor: sum, accumulate: true });
  }
  const activations = branch();
  backend.dropout({ input: activations.output, output: activations.output, dropout });
  backend.add({ a: input, b: activations.output, output: sum });
  return activations;
}
