import type { Tensor } from '../backend/tensor.ts';
import type { DenseFeedforward, DenseFeedforwardActivations } from './dense_feedforward.ts';
import type { FastFeedforward, FastFeedforwardActivations } from './fast_feedforward.ts';
import type { Target } from './layer.ts';
import type { Context, Parameter } from './parameter.ts';

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

  get parameters(): readonly Parameter[] {
    return [...this.trees.parameters, ...this.alwaysOn.parameters];
  }

  /** input, output [tokens, width]. */
  forward(context: Context, input: Tensor, target?: Target): ParallelFeedforwardActivations {
    const trees = this.trees.forward(context, input, target);
    const { output } = trees;
    return { trees, alwaysOn: this.alwaysOn.forward(context, input, { tensor: output, accumulate: true }), output };
  }

  /** Adds to the parameters' gradients. gradOutput [tokens, width]; returns the input's gradient, of the same shape. */
  backward(context: Context, activations: ParallelFeedforwardActivations, gradOutput: Tensor): Tensor {
    const gradInput = this.trees.backward(context, activations.trees, gradOutput);
    return this.alwaysOn.backward(context, activations.alwaysOn, gradOutput, { tensor: gradInput, accumulate: true });
  }
}
