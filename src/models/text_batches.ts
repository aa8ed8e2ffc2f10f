import type { Batch } from './transformer.ts';

/** A text ready for a model. */
export interface EncodedText {
  ids: ArrayLike<number>;
  typeIds: ArrayLike<number>;
}

/** Texts of like length that one pass takes together. */
export interface TextBatch extends Batch {
  /** Which of the texts, in the batch's order. */
  members: readonly number[];
  /** i32 [batch, length], 1 where there is text; there also where nothing is padded. */
  mask: Int32Array;
}

/** How many go together at most. */
export interface BatchLimits {
  /** Tokens of a batch, padding included; 4096 by default. A text that is longer goes by itself. */
  max_tokens?: number;
  /** Texts of a batch; by default as many as the tokens allow. */
  max_texts?: number;
}

/** Tokens in one forward pass, padding included: enough to keep a machine busy, little enough to keep activations small. */
const tokensPerBatch = 4096;

/**
 * Tokens of padding that a batch may have, or an eighth of its own. A pass of its own costs about as much as so many; a long text with seven short
 * ones in one batch took seven times as long as one by one (all-MiniLM-L6-v2).
 */
const paddingPerBatch = 16;

/**
 * Which texts go together, shortest first, so that there is little padding: as many as the limits and {@link paddingPerBatch} allow, or `sequences` at a time.
 * `members`: which of the texts, all by default. `unpadded`: only texts of one length go together.
 */
export function* batchesByLength(
  encoded: readonly EncodedText[],
  options: BatchLimits & { members?: readonly number[]; sequences?: number; unpadded?: boolean } = {},
): Generator<number[]> {
  const { members = encoded.map((_, index) => index), sequences, unpadded = false } = options;
  const { max_tokens = tokensPerBatch, max_texts = Number.POSITIVE_INFINITY } = options;
  const order = [...members].sort((a, b) => encoded[a].ids.length - encoded[b].ids.length);
  let batch: number[] = [];
  let tokens = 0;
  for (const index of order) {
    const { length } = encoded[index].ids;
    const padded = (batch.length + 1) * length;
    const padding = padded - tokens - length;
    const full =
      (sequences === undefined
        ? padded > max_tokens || batch.length === max_texts || padding > Math.max(paddingPerBatch, tokens / 8)
        : batch.length === sequences) ||
      (unpadded && length !== encoded[batch[0]]?.ids.length);
    if (batch.length > 0 && full) {
      yield batch;
      [batch, tokens] = [[], 0];
    }
    batch.push(index);
    tokens += length;
  }
  if (batch.length > 0) yield batch;
}

/** Some of the texts side by side, padded to the longest. */
export function batchOf(encoded: readonly EncodedText[], members: readonly number[]): TextBatch {
  const length = members.reduce((most, index) => Math.max(most, encoded[index].ids.length), 0);
  const [ids, typeIds, mask] = Array.from({ length: 3 }, () => new Int32Array(members.length * length));
  members.forEach((index, row) => {
    ids.set(encoded[index].ids, row * length);
    typeIds.set(encoded[index].typeIds, row * length);
    mask.fill(1, row * length, row * length + encoded[index].ids.length);
  });
  return { members, batch: members.length, length, ids, typeIds, mask, attentionMask: mask.includes(0) ? mask : undefined };
}
