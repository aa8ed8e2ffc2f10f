import type { Tensor } from '../backend/tensor.ts';
import { InputError } from '../errors.ts';
import type { Norm, NormActivations } from './layer_norm.ts';
import type { Context, Parameter } from './parameter.ts';

/** Root mean square normalization (arXiv 1910.07467) over the last dimension, for inference. gamma [width]. */
export class RmsNorm implements Norm {
  constructor(
    readonly gamma: Parameter,
    readonly epsilon: number,
  ) {}

  get parameters(): readonly Parameter[] {
    return [this.gamma];
  }

  /** input, output [rows, width]. @throws InputError in training */
  forward(context: Context, input: Tensor, output = context.arena.tensor('norm output', input.shape)): NormActivations {
    if (context.training) this.backward();
    context.device.rmsNorm({ input, gamma: this.gamma.value, epsilon: this.epsilon, output });
    return { input, output };
  }

  backward(): never {
    throw new InputError('models with RMS norms cannot be trained yet: open one of another family');
  }
}
