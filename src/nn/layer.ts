import { type Dropout, dropoutKey } from '../backend/dropout.ts';
import type { Tensor } from '../backend/tensor.ts';
import type { Context, Parameter } from './parameter.ts';

/**
 * Where a layer puts its result. Layers take one from the context's arena if none is given; with `accumulate` the result is added to what
 * the tensor holds, which is how residual connections and their gradients are summed without a pass of their own.
 */
export interface Target {
  tensor: Tensor;
  accumulate?: boolean;
}

/** The gradient to add to, or undefined if the parameter is frozen or has none. */
export function gradientOf(parameter: Parameter | undefined): Tensor | undefined {
  return parameter?.frozen ? undefined : parameter?.gradient;
}

/** The dropout of one site in this pass: undefined outside of training, where the context has none, or where the probability is 0. */
export function dropoutAt(context: Context, site: number, probability: number): Dropout | undefined {
  if (!context.training || !context.dropout || probability === 0) return undefined;
  return { probability, key: dropoutKey(context.dropout.seed, context.dropout.step, site) };
}

/**
 * Adds to the gradients of a linear map's weight [outputs, inputs] and bias [outputs], as far as they are trained. input [rows, inputs],
 * gradOutput [rows, outputs].
 */
export function addLinearGradients(
  context: Context,
  weight: Parameter,
  bias: Parameter | undefined,
  input: Tensor,
  gradOutput: Tensor,
): void {
  const { device, arena, precision } = context;
  const gradBias = gradientOf(bias);
  if (!gradientOf(weight) && !gradBias) return;
  const mark = arena.mark();
  // The operation makes both in one pass; a frozen weight's goes to scratch.
  const gradWeight = gradientOf(weight) ?? arena.tensor('gradient of a frozen weight', weight.value.shape);
  device.linearBackwardWeight({ input, gradOutput, gradWeight, gradBias, precision });
  arena.release(mark);
}
