import type { Tensor } from '../backend/tensor.ts';
import { gradientOf, type Target } from './layer.ts';
import type { Parameter, Run } from './parameter.ts';

export interface LayerNormActivations {
  /** [rows, width]. */
  input: Tensor;
  /** [rows, width]. */
  output: Tensor;
  /** [rows], kept in training. */
  mean?: Tensor;
  /** [rows], reciprocal standard deviations, kept in training. */
  reciprocal?: Tensor;
}

/** Layer normalisation (arXiv 1607.06450) over the last dimension. gamma and beta [width]. */
export class LayerNorm {
  constructor(
    readonly gamma: Parameter,
    readonly beta: Parameter,
    readonly epsilon: number,
  ) {}

  /** input, output [rows, width]. */
  forward(run: Run, input: Tensor, output = run.arena.tensor('norm output', input.shape)): LayerNormActivations {
    const rows = input.size / this.gamma.value.size;
    const mean = run.training ? run.arena.tensor('norm mean', [rows]) : undefined;
    const reciprocal = run.training ? run.arena.tensor('norm reciprocal', [rows]) : undefined;
    run.backend.layerNorm({ input, gamma: this.gamma.value, beta: this.beta.value, epsilon: this.epsilon, output, mean, reciprocal });
    return { input, output, mean, reciprocal };
  }

  /** Adds to the gradients of gamma and beta. The target may be gradOutput itself unless it accumulates. */
  backward(run: Run, activations: LayerNormActivations, gradOutput: Tensor, target?: Target): Tensor {
    const { input } = activations;
    const gradInput = target?.tensor ?? run.arena.tensor('norm input gradient', input.shape);
    run.backend.layerNormBackward({
      input,
      gamma: this.gamma.value,
      mean: activations.mean!,
      reciprocal: activations.reciprocal!,
      gradOutput,
      gradInput,
      accumulate: target?.accumulate,
      gradGamma: gradientOf(this.gamma),
      gradBeta: gradientOf(this.beta),
    });
    return gradInput;
  }
}
