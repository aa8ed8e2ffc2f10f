import type * as operations from '../operations/activations.ts';
import type { Implementation } from '../operations/operation.ts';
import { geluSlope, geluTanhSlope, geluTanhValue, geluValue } from './gelu.ts';
import { logistic } from './logistic.ts';

const activation =
  (value: (x: number) => number): Implementation<typeof operations.gelu> =>
  ({ input, output }, { count }) => {
    for (let i = 0; i < count; i++) output[i] = value(input[i]);
  };

const backwardFromInput =
  (slope: (x: number) => number): Implementation<typeof operations.geluBackward> =>
  ({ input, gradOutput, gradInput }, { count }) => {
    for (let i = 0; i < count; i++) gradInput[i] = gradOutput[i] * slope(input[i]);
  };

export const gelu = activation(geluValue);
export const geluBackward = backwardFromInput(geluSlope);

export const geluTanh = activation(geluTanhValue);
export const geluTanhBackward = backwardFromInput(geluTanhSlope);

export const silu = activation((x) => x * logistic(x));
export const siluBackward = backwardFromInput((x) => logistic(x) * (1 + x * logistic(-x)));

export const tanh = activation(Math.tanh);
export const tanhBackward: Implementation<typeof operations.tanhBackward> = ({ output, gradOutput, gradInput }, { count }) => {
  for (let i = 0; i < count; i++) gradInput[i] = gradOutput[i] * (1 - output[i] * output[i]);
};

export const relu = activation((x) => (x <= 0 ? 0 : x));
/** Chosen, not multiplied: a gradient that is not finite does not count where the slope is 0. */
export const reluBackward: Implementation<typeof operations.reluBackward> = ({ output, gradOutput, gradInput }, { count }) => {
  for (let i = 0; i < count; i++) gradInput[i] = output[i] > 0 ? gradOutput[i] : 0;
};
