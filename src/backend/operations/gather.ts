import { ShapeError } from '../../errors.ts';
import type { Tensor } from '../tensor.ts';
import { input, operation, optional, output, updated } from './operation.ts';
import { describe, isCount, matrixOf } from './shapes.ts';

/** [rows, width, count] of rows looked up in a table [count, width]. */
function lookUpShape(table: Tensor, indices: Tensor) {
  const [count, width] = matrixOf('table', table, '[count, width]');
  return [indices.size, width, count] as const;
}

/**
 * output[t] (+)= scale table[indices[t]]. table [count, width], indices i32 [rows], output [rows, width]; scale is a tensor of one
 * element (a learned factor), 1 if absent. An index outside the table is a late error.
 */
export const gather = operation<{ accumulate?: boolean }>()('gather', {
  operands: {
    table: input('f32'),
    indices: input('i32'),
    output: output('f32', 'rows', 'width'),
    scale: optional(input('f32', 1)),
  },
  numbers: ['rows', 'width', 'count', 'accumulate'],
  measure: ({ table, indices, accumulate }) => [...lookUpShape(table, indices), accumulate ? 1 : 0],
});

/**
 * table[indices[t]] += scale input[t], in order of t: the backward of {@link gather}. Rows whose index is `skipIndex` (padding) are left
 * out. rowMask i32 [count] gets 1 at every row that was added to. An index outside the table is a late error.
 */
export const scatterAdd = operation<{ skipIndex?: number }>()('scatterAdd', {
  operands: {
    indices: input('i32'),
    input: input('f32', 'rows', 'width'),
    table: updated('f32'),
    rowMask: optional(updated('i32', 'count')),
    scale: optional(input('f32', 1)),
  },
  numbers: ['rows', 'width', 'count', 'skipIndex'],
  // No index equals NaN.
  measure: ({ table, indices, skipIndex = Number.NaN }) => [...lookUpShape(table, indices), skipIndex],
});

/**
 * table[indices[t]] = input[t][column ... column + width), in order of t. table [count, width], indices i32 [rows], input [rows, inputWidth],
 * of which a part of each row is copied. An index outside the table is a late error.
 */
export const scatterRows = operation<{ column?: number }>()('scatterRows', {
  operands: { input: input('f32', 'rows', 'inputWidth'), indices: input('i32'), table: updated('f32') },
  numbers: ['rows', 'width', 'count', 'inputWidth', 'column'],
  measure({ input, indices, table, column = 0 }) {
    const [rows, width, count] = lookUpShape(table, indices);
    const [, inputWidth] = matrixOf('input', input, '[rows, inputWidth]');
    if (!isCount(column) || column + width > inputWidth)
      throw new ShapeError(`columns ${column} to ${column + width} are not in rows of ${inputWidth} of input ${describe(input)}`);
    return [rows, width, count, inputWidth, column];
  },
});

/** gradScale += sum over t of gradOutput[t] . table[indices[t]]. */
export const gatherScaleBackward = operation()('gatherScaleBackward', {
  operands: {
    table: input('f32'),
    indices: input('i32'),
    gradOutput: input('f32', 'rows', 'width'),
    gradScale: updated('f32', 1),
  },
  numbers: ['rows', 'width', 'count'],
  measure: ({ table, indices }) => lookUpShape(table, indices),
});
