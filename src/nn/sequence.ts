import type { Tensor } from '../backend/tensor.ts';

/** A batch of token sequences in the device's memory, for the layers that need to know where a sequence ends. */
export interface Sequence {
  batch: number;
  /** Positions of each sequence, padding included; of the longest, where they are packed. */
  length: number;
  /** i32 [tokens]; batch x length tokens, unless they are packed. */
  ids: Tensor;
  /** i32 [tokens], each token's position in its sequence. */
  positions: Tensor;
  /** i32 [tokens], the segment that a token belongs to, for models with token types. */
  typeIds?: Tensor;
  /** i32 [batch, length]; 0 marks padding. Absent: nothing is padding. */
  paddingMask?: Tensor;
  /** Of decoders, in which a token sees itself and those before it. */
  causal?: CausalSequences;
}

/** Sequences that lie one behind the other, without padding. */
export interface CausalSequences {
  /** i32 [batch, 4], as the operation attention takes them. */
  sequences: Tensor;
  /** Keys of the longest, those of a cache included. */
  keyLength: number;
  /** [tokens, 2 half], of models with rotary positions, as the operation rotary takes it. */
  rotation?: Tensor;
  /** Where this block keeps keys and values, [places, 2 key width], and the place of each token, i32 [tokens]. Absent: nowhere. */
  cache?: { table: Tensor; places: Tensor };
}
