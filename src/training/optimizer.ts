import type { Backend } from '../backend/backend.ts';
import type { Tensor } from '../backend/tensor.ts';
import type { Parameter } from '../nn/parameter.ts';

export interface AdamWOptions {
  beta1: number;
  beta2: number;
  epsilon: number;
  /** Applies to parameters whose `decay` is set. */
  weightDecay: number;
  /** Largest norm of the whole gradient; a longer one is scaled down to it. Infinity: no clipping. */
  clipNorm: number;
}

/** crammedBERT's pretraining (arXiv 2212.14034). */
export const pretrainingAdamW: AdamWOptions = { beta1: 0.9, beta2: 0.98, epsilon: 1e-12, weightDecay: 0.01, clipNorm: 0.5 };

/** A parameter with its moments, shaped like its value. */
export interface OptimizedParameter {
  readonly parameter: Parameter;
  readonly mean: Tensor;
  readonly variance: Tensor;
}

/**
 * AdamW (arXiv 1711.05101) over the parameters that are not frozen. Gives each a gradient, zero at first; a model's backward adds
 * to it, `step` uses it up and zeroes it again. Everything is queued, nothing waits.
 *
 * Row-sparse gradients stay sparse: norm, update and clearing read the touched rows only (the moments of the others move all the same).
 */
export class AdamW {
  readonly parameters: readonly OptimizedParameter[];
  /** Steps taken; the bias correction depends on it. */
  steps = 0;
  private readonly sums: Tensor;
  private readonly flags: ReadonlySet<Tensor>;

  constructor(
    readonly backend: Backend,
    parameters: readonly Parameter[],
    readonly options: AdamWOptions = pretrainingAdamW,
  ) {
    this.parameters = parameters
      .filter((parameter) => !parameter.frozen)
      .map((parameter) => {
        const { value, name } = parameter;
        parameter.gradient = backend.zeros(`${name}.gradient`, value.shape);
        return { parameter, mean: backend.zeros(`${name}.mean`, value.shape), variance: backend.zeros(`${name}.variance`, value.shape) };
      });
    this.flags = new Set(this.parameters.flatMap(({ parameter }) => parameter.touched ?? []));
    for (const flags of this.flags) backend.fill({ output: flags, value: 0 });
    this.sums = backend.zeros('sums of squares', [this.parameters.length]);
  }

  /**
   * Clips the gradient by its norm, updates every parameter and zeroes the gradients.
   *
   * @param clip [2], overwritten: the factor applied to the gradient, and the gradient's norm before clipping
   */
  step(learningRate: number, clip: Tensor): void {
    const { backend, sums, options } = this;
    this.steps++;
    this.parameters.forEach(({ parameter }, index) => {
      backend.sumOfSquares({ input: gradientOf(parameter), touched: parameter.touched, output: sums.view([1], index) });
    });
    backend.clipScale({ sums, maximum: options.clipNorm, output: clip });
    const gradientScale = clip.view([1]);
    for (const { parameter, mean, variance } of this.parameters) {
      backend.adamw({
        parameter: parameter.value,
        gradient: gradientOf(parameter),
        mean,
        variance,
        touched: parameter.touched,
        gradientScale,
        learningRate,
        beta1: options.beta1,
        beta2: options.beta2,
        epsilon: options.epsilon,
        weightDecay: parameter.decay ? options.weightDecay : 0,
        step: this.steps,
      });
    }
    this.clearGradients();
  }

  private clearGradients(): void {
    const { backend } = this;
    for (const { parameter } of this.parameters) {
      const gradient = gradientOf(parameter);
      if (parameter.touched) backend.clearRows({ gradient, touched: parameter.touched });
      else backend.fill({ output: gradient, value: 0 });
    }
    for (const flags of this.flags) backend.fill({ output: flags, value: 0 });
  }

  /** Frees the moments and the gradients; the parameters stay. */
  dispose(): void {
    this.sums.dispose();
    for (const { parameter, mean, variance } of this.parameters) {
      mean.dispose();
      variance.dispose();
      parameter.gradient?.dispose();
      parameter.gradient = undefined;
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function gradientOf(parameter: Parameter): Tensor {
  if (!parameter.gradient) throw new Error(`parameter '${parameter.name}' has lost its gradient`);
  return parameter.gradient;
}
