import type { Tensor } from '../backend/tensor.ts';
import type { Target } from './layer.ts';
import type { Linear, LinearActivations } from './linear.ts';
import type { Context, Parameter } from './parameter.ts';

export interface DenseFeedforwardActivations {
  /** Its output is [tokens, neurons]. */
  up: LinearActivations;
  down: LinearActivations;
  /** [tokens, width]. */
  output: Tensor;
}

/** BERT's feedforward layer: every neuron for every token. up [neurons, width] with its activation, GELU in most, down [width, neurons]. */
export class DenseFeedforward {
  constructor(
    readonly up: Linear,
    readonly down: Linear,
  ) {}

  get parameters(): readonly Parameter[] {
    return [...this.up.parameters, ...this.down.parameters];
  }

  /** input, output [tokens, width]. */
  forward(context: Context, input: Tensor, target?: Target): DenseFeedforwardActivations {
    const up = this.up.forward(context, input);
    const down = this.down.forward(context, up.output, target);
    return { up, down, output: down.output };
  }

  /** Adds to the weights' gradients. gradOutput [tokens, width]; returns the input's gradient, of the same shape. */
  backward(context: Context, activations: DenseFeedforwardActivations, gradOutput: Tensor, target?: Target): Tensor {
    const gradUp = this.down.backward(context, activations.down, gradOutput);
    return this.up.backward(context, activations.up, gradUp, target);
  }
}
