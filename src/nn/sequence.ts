import type { Tensor } from '../backend/tensor.ts';

/** A batch of token sequences in the device's memory, for the layers that need to know where a sequence ends. Tokens = batch x length. */
export interface Sequence {
  batch: number;
  /** Positions of each sequence, padding included. */
  length: number;
  /** i32 [tokens]. */
  ids: Tensor;
  /** i32 [tokens], each token's position in its sequence. */
  positions: Tensor;
  /** i32 [tokens], the segment that a token belongs to, for models with token types. */
  typeIds?: Tensor;
  /** i32 [batch, length]; 0 marks padding. Absent: nothing is padding. */
  paddingMask?: Tensor;
}
