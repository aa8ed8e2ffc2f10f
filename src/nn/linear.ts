import type { Tensor } from '../backend/tensor.ts';
import { type Activation, activationBackward } from './activation.ts';
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
    readonly activation: 'none' | Activation = 'none',
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
    const keep = context.training && activation !== 'none';
    const preActivation = keep ? context.arena.tensor('linear pre-activation', [rows, this.outputs]) : undefined;
    // The product does GELU itself; for any other it leaves what that takes.
    const fused = activation === 'none' || activation === 'gelu';
    const product = fused ? output : (preActivation ?? output);
    context.device.linear({
      input,
      weight: this.weight.operand(context),
      bias: this.bias?.value,
      output: product,
      activation: fused ? activation : 'none',
      preActivation: fused ? preActivation : undefined,
      accumulate: target?.accumulate,
      precision: context.precision,
    });
    if (!fused) context.device[activation]({ input: product, output });
    return { input, output, preActivation };
  }

  /** Adds to the gradients of weight and bias. gradOutput [rows, outputs]; returns the input's gradient [rows, inputs]. */
  backward(context: Context, activations: LinearActivations, gradOutput: Tensor, target?: Target): Tensor {
    const { device, arena, precision } = context;
    const { input, preActivation } = activations;
    let gradient = gradOutput;
    if (preActivation && this.activation !== 'none') {
      gradient = arena.tensor('linear pre-activation gradient', preActivation.shape);
      activationBackward(device, this.activation, { input: preActivation, gradOutput, gradInput: gradient });
    }
    addLinearGradients(context, this.weight, this.bias, input, gradient);
    const gradInput = target?.tensor ?? arena.tensor('linear input gradient', input.shape);
    device.linearBackwardInput({ gradOutput: gradient, weight: this.weight.value, gradInput, accumulate: target?.accumulate, precision });
    return gradInput;
  }
}
