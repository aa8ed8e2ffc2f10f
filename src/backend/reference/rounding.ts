import { precisions } from '../prepared_weight.ts';
import type { Floats } from './arrays.ts';

const word = new Float32Array(1);
const bits = new Uint32Array(word.buffer);

/** The nearest bf16, ties to even, as a float. NaN stays NaN. */
export function roundToBf16(value: number): number {
  if (Number.isNaN(value)) return value;
  word[0] = value;
  bits[0] = (bits[0] + 0x7fff + ((bits[0] >>> 16) & 1)) & 0xffff0000;
  return word[0];
}

/** How a product takes each value of its operands, by the number that the precision has in operations. */
export const roundingTo = (precision: number): ((value: number) => number) =>
  precisions[precision] === 'bf16' ? roundToBf16 : (value) => value;

/** Operands of products as the products take them. */
export const roundedTo = (precision: number, ...values: Floats[]): Floats[] =>
  precisions[precision] === 'f32' ? values : values.map((array) => Float32Array.from(array, roundingTo(precision)));
