/** Vectors in fewer bytes, as sentence-transformers' `quantize_embeddings` makes them, and the way back. */
import { InputError, quoted } from '../errors.ts';

/** What the numbers of embeddings may be. */
export const embeddingDtypes = ['f32', 'i8', 'binary'] as const;
export type EmbeddingDtype = (typeof embeddingDtypes)[number];

/** Of each dimension the least and the largest value. */
export interface EmbeddingRanges {
  least: Float32Array;
  largest: Float32Array;
}

/** Ranges of no vector yet. */
export const emptyRanges = (width: number): EmbeddingRanges => ({
  least: new Float32Array(width).fill(Number.POSITIVE_INFINITY),
  largest: new Float32Array(width).fill(Number.NEGATIVE_INFINITY),
});

/** Widens ranges by what a vector [width] holds. */
export function widen({ least, largest }: EmbeddingRanges, vector: Float32Array): void {
  for (let i = 0; i < vector.length; i++) {
    if (vector[i] < least[i]) least[i] = vector[i];
    if (vector[i] > largest[i]) largest[i] = vector[i];
  }
}

/** A step of each dimension: a 255th of its range in float32, 1 where all values are one. */
function steps({ least, largest }: EmbeddingRanges): Float32Array {
  return least.map((low, i) => Math.fround(Math.fround(largest[i] - low) / 255) || 1);
}

/** How many numbers a vector of `width` takes. */
export const quantizedWidth = (width: number, dtype: EmbeddingDtype) => (dtype === 'binary' ? Math.ceil(width / 8) : width);

/** What makes i8 of vectors within the ranges: the step in which a value lies, counted from -128; values beyond them lie in the last steps. */
export function toI8(ranges: EmbeddingRanges): (vector: Float32Array) => Int8Array<ArrayBuffer> {
  const [{ least }, step] = [ranges, steps(ranges)];
  return (vector) =>
    Int8Array.from(vector, (value, i) => {
      // float32 throughout, as NumPy computes it.
      const place = Math.floor(Math.fround(Math.fround(value - least[i]) / step[i]));
      return Math.min(Math.max(place, 0), 255) - 128;
    });
}

/** The values at the lower ends of the steps that {@link toI8} chose. */
export function fromI8(ranges: EmbeddingRanges): (vector: Int8Array) => Float32Array {
  const [{ least }, step] = [ranges, steps(ranges)];
  return (vector) => Float32Array.from(vector, (value, i) => (value + 128) * step[i] + least[i]);
}

/** Whether each value is above 0: eight bits a number, the first the highest, the last number filled up with zeros; 128 less than their value. */
export function toBinary(vector: Float32Array): Int8Array<ArrayBuffer> {
  const bits = new Int8Array(quantizedWidth(vector.length, 'binary')).fill(-128);
  for (let i = 0; i < vector.length; i++) if (vector[i] > 0) bits[i >> 3] += 128 >> (i & 7);
  return bits;
}

/** 1 where {@link toBinary} found a value above 0, else -1: its cosine with a vector ranks as the sum of that vector's values at the bits does. */
export function fromBinary(bits: Int8Array, width: number): Float32Array {
  return Float32Array.from({ length: width }, (_, i) => ((bits[i >> 3] + 128) & (128 >> (i & 7)) ? 1 : -1));
}

/**
 * Vectors in fewer bytes. `i8`: the range of each dimension over all vectors (or over others: `ranges`) in 256 steps. `binary`: the signs, eight a
 * number. Both as sentence-transformers' `quantize_embeddings` gives them for 'int8' and 'binary'.
 * @param embeddings dims [texts, width]
 * @returns data [texts, width], or [texts, width / 8, rounded up] of signs; of i8 the ranges too, which whoever compares needs
 * @throws InputError if dims are others, or one vector alone is to give the ranges
 */
export function quantizeEmbeddings(
  { dims, data }: { dims: readonly number[]; data: Float32Array },
  dtype: 'i8' | 'binary',
  options: { ranges?: EmbeddingRanges } = {},
): { dims: [number, number]; data: Int8Array; ranges?: EmbeddingRanges } {
  const [rows, width] = dims;
  if (dims.length !== 2 || rows * width !== data.length)
    throw new InputError(`embeddings: ${data.length} values of dims ${quoted(dims)}, expected [texts, width], pooled ones`);
  if (dtype !== 'i8' && dtype !== 'binary') throw new InputError(`dtype: got ${quoted(dtype)}, expected "i8" or "binary"`);
  const vectors = Array.from({ length: rows }, (_, row) => data.subarray(row * width, (row + 1) * width));
  const ranges = dtype === 'i8' ? (options.ranges ?? rangesOf(vectors, width)) : undefined;
  const quantize = ranges ? toI8(ranges) : toBinary;
  const columns = quantizedWidth(width, dtype);
  const quantized = new Int8Array(rows * columns);
  for (const [row, vector] of vectors.entries()) quantized.set(quantize(vector), row * columns);
  return { dims: [rows, columns], data: quantized, ranges };
}

function rangesOf(vectors: readonly Float32Array[], width: number): EmbeddingRanges {
  if (vectors.length === 1) throw noRangesError();
  const ranges = emptyRanges(width);
  for (const vector of vectors) widen(ranges, vector);
  return ranges;
}

/** Of a single vector. */
export const noRangesError = () =>
  new InputError('i8 takes the range of each dimension over all vectors: found one vector, expected at least 2');
