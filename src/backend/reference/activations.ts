import type * as operations from '../operations/activations.ts';
import type { Implementation } from '../operations/operation.ts';
import { geluSlope, geluTanhSlope, geluTanhValue, geluValue } from './gelu.ts';
import { logistic } from './logistic.ts';

export const gelu: Implementation<typeof operations.gelu> = ({ input, output }, { count }) => {
  for (let i = 0; i < count; i++) output[i] = geluValue(input[i]);
};

export const geluBackward: Implementation<typeof operations.geluBackward> = ({ input, gradOutput, gradInput }, { count }) => {
  for (let i = 0; i < count; i++) gradInput[i] = gradOutput[i] * geluSlope(input[i]);
};

export const geluTanh: Implementation<typeof operations.geluTanh> = ({ input, output }, { count }) => {
  for (let i = 0; i < count; i++) output[i] = geluTanhValue(input[i]);
};

export const geluTanhBackward: Implementation<typeof operations.geluTanhBackward> = ({ input, gradOutput, gradInput }, { count }) => {
  for (let i = 0; i < count; i++) gradInput[i] = gradOutput[i] * geluTanhSlope(input[i]);
};

export const silu: Implementation<typeof operations.silu> = ({ input, output }, { count }) => {
  for (let i = 0; i < count; i++) output[i] = input[i] * logistic(input[i]);
};

export const siluBackward: Implementation<typeof operations.siluBackward> = ({ input, gradOutput, gradInput }, { count }) => {
  for (let i = 0; i < count; i++) gradInput[i] = gradOutput[i] * logistic(input[i]) * (1 + input[i] * logistic(-input[i]));
};

export const relu: Implementation<typeof operations.relu> = ({ input, output }, { count }) => {
  for (let i = 0; i < count; i++) output[i] = input[i] <= 0 ? 0 : input[i];
};

export const reluBackward: Implementation<typeof operations.reluBackward> = ({ output, gradOutput, gradInput }, { count }) => {
  for (let i = 0; i < count; i++) gradInput[i] = output[i] > 0 ? gradOutput[i] : 0;
};

export const tanh: Implementation<typeof operations.tanh> = ({ input, output }, { count }) => {
  for (let i = 0; i < count; i++) output[i] = Math.tanh(input[i]);
};

export const tanhBackward: Implementation<typeof operations.tanhBackward> = ({ output, gradOutput, gradInput }, { count }) => {
  for (let i = 0; i < count; i++) gradInput[i] = gradOutput[i] * (1 - output[i] * output[i]);
};
