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

/** One operand of a product as the product takes it, by the contract's number of the precision. */
export const operand = (precision: number): ((value: number) => number) =>
  precisions[precision] === 'bf16' ? roundToBf16 : (value) => value;

/** All values of operands of products as the products take them. */
export const operands = (precision: number, ...values: Floats[]): Floats[] =>
  precisions[precision] === 'bf16' ? values.map((array) => Float32Array.from(array, roundToBf16)) : values;
