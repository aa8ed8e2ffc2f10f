/** Operations on every element by itself. */

import { ShapeError } from '../../errors.ts';
import type { Dropout } from '../dropout.ts';
import { inPlace, input, operation, output, updated } from './operation.ts';
import { describe, expectInt32, expectProbability, rowsOf } from './shapes.ts';

/** output = value. For i32 the value is rounded towards zero, and must be one that int32 holds. */
export const fill = operation<{ value: number }>()('fill', {
  operands: { output: output('word', 'count') },
  numbers: ['count', 'value'],
  measure: ({ output, value }) => [output.size, value],
  otherwise: ({ output }) => (output?.dtype === 'i32' ? fillIntegers : undefined),
});

/** {@link fill} of integers. */
export const fillIntegers = operation<{ value: number }>()('fillIntegers', {
  operands: { output: output('i32', 'count') },
  numbers: ['count', 'value'],
  measure: ({ output, value }) => {
    expectInt32('value', Math.trunc(value));
    return [output.size, value];
  },
});

/** output = input; same size and dtype, f32 or i32. */
export const copy = operation()('copy', {
  operands: { input: input('word'), output: output('word', 'count') },
  numbers: ['count'],
  measure: ({ input, output }) => {
    if (output.dtype !== input.dtype) throw new ShapeError(`output ${describe(output)} must be ${input.dtype}`);
    return [input.size];
  },
});

/** output = a + scale b, elementwise; output may be a or b. scale is 1 by default. */
export const add = operation<{ scale?: number }>()('add', {
  operands: { a: input('f32'), b: input('f32', 'count'), output: inPlace(output('f32', 'count'), 'a', 'b') },
  numbers: ['count', 'scale'],
  measure: ({ a, scale = 1 }) => [a.size, scale],
});

/** output = a b, elementwise; output may be a or b. */
export const multiply = operation()('multiply', {
  operands: { a: input('f32'), b: input('f32', 'count'), output: inPlace(output('f32', 'count'), 'a', 'b') },
  numbers: ['count'],
  measure: ({ a }) => [a.size],
});

/** output = kept(input) / (1 - probability); its own backward, applied to the gradient. output may be input. */
export const dropout = operation<{ dropout: Dropout }>()('dropout', {
  operands: { input: input('f32'), output: inPlace(output('f32', 'count'), 'input') },
  numbers: ['count', 'probability', 'key'],
  measure: ({ input, dropout }) => {
    expectProbability(dropout.probability);
    return [input.size, dropout.probability, dropout.key];
  },
});

/** output[r] += scale row, for every row of output [rows, width]; row [width]. scale is 1 by default. */
export const addRow = operation<{ scale?: number }>()('addRow', {
  operands: { row: input('f32', 'width'), output: updated('f32') },
  numbers: ['rows', 'width', 'scale'],
  measure: ({ row, output, scale = 1 }) => [rowsOf('output', output, row.size), row.size, scale],
});
