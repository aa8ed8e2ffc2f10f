import type { Tensor } from '../backend/tensor.ts';
import { gradientOf, type Target } from './layer.ts';
import type { Norm, NormActivations } from './layer_norm.ts';
import type { Context, Parameter } from './parameter.ts';

/** Root mean square normalization (arXiv 1910.07467) over the last dimension. gamma [width]. */
export class RmsNorm implements Norm {
  constructor(
    readonly gamma: Parameter,
    readonly epsilon: number,
  ) {}

  get parameters(): readonly Parameter[] {
    return [this.gamma];
  }

  /** input, output [rows, width]. */
  forward(context: Context, input: Tensor, output = context.arena.tensor('norm output', input.shape)): NormActivations {
    const rows = input.size / this.gamma.value.size;
    const rstd = context.training ? context.arena.tensor('norm rstd', [rows]) : undefined;
    context.device.rmsNorm({ input, gamma: this.gamma.value, epsilon: this.epsilon, output, rstd });
    return { input, output, rstd };
  }

  /** Adds to the gradient of gamma. The target may be gradOutput itself unless it accumulates. */
  backward(context: Context, activations: NormActivations, gradOutput: Tensor, target?: Target): Tensor {
    const { input } = activations;
    const gradInput = target?.tensor ?? context.arena.tensor('norm input gradient', input.shape);
    context.device.rmsNormBackward({
      input,
      gamma: this.gamma.value,
      rstd: activations.rstd!,
      gradOutput,
      gradInput,
      accumulate: target?.accumulate,
      gradGamma: gradientOf(this.gamma),
    });
    return gradInput;
  }
}
