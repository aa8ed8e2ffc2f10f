/** Sums and means of many elements. */
import { input, operation, optional, output } from './operation.ts';
import { rowsOf, widthOf } from './shapes.ts';

/** output[0] (+)= sum of input. */
export const sum = operation<{ accumulate?: boolean }>()('sum', {
  operands: { input: input('f32'), output: output('f32', 1) },
  numbers: ['count', 'accumulate'],
  measure: ({ input, accumulate }) => [input.size, accumulate ? 1 : 0],
});

/** output[0] = sum of squares of input [rows, ...]. With rowMask i32 [rows], rows whose flag is 0 are not read and count as zero. */
export const sumOfSquares = operation()('sumOfSquares', {
  operands: { input: input('f32'), rowMask: optional(input('i32')), output: output('f32', 1) },
  numbers: ['rows', 'width'],
  measure: ({ input, rowMask }) => {
    const rows = rowMask?.size ?? 1;
    return [rows, widthOf(input, rows)];
  },
});

/** The mean of each column of input [rows, width], to output [width]; 0 where there is no row. */
export const columnMean = operation()('columnMean', {
  operands: { input: input('f32'), output: output('f32', 'width') },
  numbers: ['rows', 'width'],
  measure: ({ input, output }) => [rowsOf('input', input, output.size), output.size],
});
