import type { Device } from '../backend/device.ts';
import type { Tensor } from '../backend/tensor.ts';

/** What a dense layer may do with each element of its output, by the operation of that name. */
export const activations = ['gelu', 'geluTanh', 'silu', 'relu'] as const;
export type Activation = (typeof activations)[number];

/** gradInput = gradOutput activation'(input); gradInput may be gradOutput. All of one size. */
export function activationBackward(
  device: Device,
  activation: Activation,
  { input, gradOutput, gradInput }: { input: Tensor; gradOutput: Tensor; gradInput: Tensor },
): void {
  // A ReLU's output is above 0 where its input is.
  if (activation === 'relu') device.reluBackward({ output: input, gradOutput, gradInput });
  else device[`${activation}Backward`]({ input, gradOutput, gradInput });
}
