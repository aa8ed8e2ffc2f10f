import type { Tensor } from '../backend/tensor.ts';
import { addLinearGradients, type Target } from './layer.ts';
import type { Context, Parameter } from './parameter.ts';

/** What the backward of a linear layer needs. */
export interface LinearActivations {
  /** [rows, inputs]. */
  input: Tensor;
  /** [rows, outputs]. */
  output: Tensor;
  /** [rows, outputs], before the activation; kept in training if there is one. */
  preActivation?: Tensor;
}

/** output = activation(input weight^T + bias). weight [outputs, inputs], bias [outputs] or none. */
export class Linear {
  readonly inputs: number;
  readonly outputs: number;

  constructor(
    readonly weight: Parameter,
    readonly bias?: Parameter,
    readonly activation: 'none' | 'gelu' = 'none',
  ) {
    [this.outputs, this.inputs] = weight.value.shape as [number, number];
    weight.product = { operation: 'linear' };
  }

  get parameters(): readonly Parameter[] {
    return this.bias ? [this.weight, this.bias] : [this.weight];
  }

  /** input [rows, inputs]; output [rows, outputs]. An accumulating target excludes an activation. */
  forward(context: Context, input: Tensor, target?: Target): LinearActivations {
    const rows = input.size / this.inputs;
    const { activation } = this;
    const output = target?.tensor ?? context.arena.tensor('linear output', [rows, this.outputs]);
    const keep = context.training && activation === 'gelu';
    const preActivation = keep ? context.arena.tensor('linear pre-activation', [rows, this.outputs]) : undefined;
    context.device.linear({
      input,
      weight: this.weight.operand(context),
      bias: this.bias?.value,
      output,
      activation,
      preActivation,
      accumulate: target?.accumulate,
      precision: context.precision,
    });
    return { input, output, preActivation };
  }

  /** Adds to the gradients of weight and bias. gradOutput [rows, outputs]; returns the input's gradient [rows, inputs]. */
  backward(context: Context, activations: LinearActivations, gradOutput: Tensor, target?: Target): Tensor {
    const { device, arena, precision } = context;
    const { input, preActivation } = activations;
    let gradient = gradOutput;
    if (preActivation) {
      gradient = arena.tensor('linear pre-activation gradient', preActivation.shape);
      device.geluBackward({ input: preActivation, gradOutput, gradInput: gradient });
    }
    addLinearGradients(context, this.weight, this.bias, input, gradient);
    const gradInput = target?.tensor ?? arena.tensor('linear input gradient', input.shape);
    device.linearBackwardInput({ gradOutput: gradient, weight: this.weight.value, gradInput, accumulate: target?.accumulate, precision });
    return gradInput;
  }
}
