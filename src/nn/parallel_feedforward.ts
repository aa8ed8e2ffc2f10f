import type { Tensor } from '../backend/tensor.ts';
import type { DenseFeedforward, DenseFeedforwardActivations } from './dense_feedforward.ts';
import type { FastFeedforward, FastFeedforwardActivations } from './fast_feedforward.ts';
import type { Target } from './layer.ts';
import type { Run } from './parameter.ts';

export interface ParallelFeedforwardActivations {
  trees: FastFeedforwardActivations;
  alwaysOn: DenseFeedforwardActivations;
  /** [tokens, width]. */
  output: Tensor;
}

/** Trees and, beside them, a few neurons that every token uses (the 'master leaf' of arXiv 2405.16836): the sum of both outputs. */
export class ParallelFeedforward {
  constructor(
    readonly trees: FastFeedforward,
    readonly alwaysOn: DenseFeedforward,
  ) {}

  /** input, output [tokens, width]. */
  forward(run: Run, input: Tensor, target?: Target): ParallelFeedforwardActivations {
    const trees = this.trees.forward(run, input, target);
    const { output } = trees;
    return { trees, alwaysOn: this.alwaysOn.forward(run, input, { tensor: output, accumulate: true }), output };
  }

  /** Adds to the parameters' gradients. gradOutput [tokens, width]; returns the input's gradient, of the same shape. */
  backward(run: Run, activations: ParallelFeedforwardActivations, gradOutput: Tensor): Tensor {
    const gradInput = this.trees.backward(run, activations.trees, gradOutput);
    return this.alwaysOn.backward(run, activations.alwaysOn, gradOutput, { tensor: gradInput, accumulate: true });
  }
}
