import type { Tensor } from '../backend/tensor.ts';

/** What a model answers beyond its hidden states: logits, or texts' vectors. */
export interface HeadOutput {
  /** [rows, width]. */
  readonly output: Tensor;
  /** After a forward in training: takes the gradient of `output`, which is used up, adds to those of the head's weights, and returns that of the encoder's output. */
  backward(gradOutput: Tensor): Tensor;
}
