import type { Tensor } from '../backend/tensor.ts';
import { gradientOf, type Target } from './layer.ts';
import type { Context, Parameter } from './parameter.ts';

/** A normalization of rows: a layer norm, or one by the root of the mean square. */
export interface Norm {
  readonly parameters: readonly Parameter[];
  /** [width]. */
  readonly gamma: Parameter;
  /** [width]; of a layer norm. */
  readonly beta?: Parameter;
  /** input, output [rows, width]. */
  forward(context: Context, input: Tensor, output?: Tensor): NormActivations;
  /** Adds to the parameters' gradients. The target may be gradOutput itself unless it accumulates. */
  backward(context: Context, activations: NormActivations, gradOutput: Tensor, target?: Target): Tensor;
}

export interface NormActivations {
  /** [rows, width]. */
  input: Tensor;
  /** [rows, width]. */
  output: Tensor;
  /** [rows], kept in training. */
  mean?: Tensor;
  /** [rows], reciprocal standard deviations, kept in training. */
  rstd?: Tensor;
}

/** Layer normalization (arXiv 1607.06450) over the last dimension. gamma and beta [width]. */
export class LayerNorm implements Norm {
  constructor(
    readonly gamma: Parameter,
    readonly beta: Parameter,
    readonly epsilon: number,
  ) {}

  get parameters(): readonly Parameter[] {
    return [this.gamma, this.beta];
  }

  /** input, output [rows, width]. */
  forward(context: Context, input: Tensor, output = context.arena.tensor('norm output', input.shape)): NormActivations {
    const rows = input.size / this.gamma.value.size;
    const mean = context.training ? context.arena.tensor('norm mean', [rows]) : undefined;
    const rstd = context.training ? context.arena.tensor('norm rstd', [rows]) : undefined;
    context.device.layerNorm({ input, gamma: this.gamma.value, beta: this.beta.value, epsilon: this.epsilon, output, mean, rstd });
    return { input, output, mean, rstd };
  }

  /** Adds to the gradients of gamma and beta. The target may be gradOutput itself unless it accumulates. */
  backward(context: Context, activations: NormActivations, gradOutput: Tensor, target?: Target): Tensor {
    const { input } = activations;
    const gradInput = target?.tensor ?? context.arena.tensor('norm input gradient', input.shape);
    context.device.layerNormBackward({
      input,
      gamma: this.gamma.value,
      mean: activations.mean!,
      rstd: activations.rstd!,
      gradOutput,
      gradInput,
      accumulate: target?.accumulate,
      gradGamma: gradientOf(this.gamma),
      gradBeta: gradientOf(this.beta),
    });
    return gradInput;
  }
}
