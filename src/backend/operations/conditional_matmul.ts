import { ShapeError } from '../../errors.ts';
import type { Tensor } from '../tensor.ts';
import { linearShape } from './linear.ts';
import { input, operation, optional, output, updated } from './operation.ts';
import { describe, widthOf } from './shapes.ts';

export interface Choices {
  /** Rows of the weight that are chosen together; 1 by default. */
  blockSize?: number;
}

const numbers = ['rows', 'inputs', 'choices', 'blockSize', 'blocks'] as const;

function choiceNumbers(input: Tensor, weight: Tensor, chosen: Tensor, blockSize = 1) {
  const [rows, inputs, outputs] = linearShape(input, weight);
  if (!Number.isInteger(blockSize) || blockSize < 1) throw new ShapeError(`blockSize ${blockSize} is not a count`);
  const blocks = outputs / blockSize;
  if (!Number.isInteger(blocks)) throw new ShapeError(`weight ${describe(weight)} is not made of blocks of ${blockSize} rows`);
  return [rows, inputs, widthOf(chosen, rows), blockSize, blocks] as const;
}

/**
 * Conditional matrix product: each row of the input meets its own chosen rows, or blocks of rows, of the weight:
 * output[r, c blockSize + j] (+)= input[r] . weight[chosen[r, c] blockSize + j] + bias[...]. What FFF layers, routed experts and nearest
 * neighbors in a few cells come down to. Rows that chose the same block are computed together.
 * input [rows, inputs], weight [blocks blockSize, inputs], chosen i32 [rows, choices], bias [blocks blockSize], output [rows, choices
 * blockSize]; blockSize is 1 by default. A block that the weight does not have is a late error. A block may be chosen twice by one row.
 */
export const conditionalMatmul = operation<Choices & { accumulate?: boolean }>()('conditionalMatmul', {
  operands: {
    input: input('f32', 'rows', 'inputs'),
    weight: input('f32'),
    chosen: input('i32', 'rows', 'choices'),
    bias: optional(input('f32', 'blocks', 'blockSize')),
    output: output('f32', 'rows', 'choices', 'blockSize'),
  },
  numbers: [...numbers, 'accumulate'],
  measure: (a) => [...choiceNumbers(a.input, a.weight, a.chosen, a.blockSize), a.accumulate ? 1 : 0],
});

/**
 * gradInput[r] (+)= sum over c, j of gradOutput[r, c blockSize + j] weight[chosen[r, c] blockSize + j]. It is the transposed product as
 * well: a sum of chosen rows, each times a number of the row's own. Shapes as in {@link conditionalMatmul}.
 */
export const conditionalMatmulBackwardInput = operation<Choices & { accumulate?: boolean }>()('conditionalMatmulBackwardInput', {
  operands: {
    gradOutput: input('f32', 'rows', 'choices', 'blockSize'),
    weight: input('f32'),
    chosen: input('i32', 'rows', 'choices'),
    gradInput: output('f32', 'rows', 'inputs'),
  },
  numbers: [...numbers, 'accumulate'],
  measure: (a) => [...choiceNumbers(a.gradInput, a.weight, a.chosen, a.blockSize), a.accumulate ? 1 : 0],
});

/**
 * gradWeight[chosen[r, c] blockSize + j] += gradOutput[r, c blockSize + j] input[r], and gradBias likewise. rowMask i32 [blocks blockSize],
 * if given, gets 1 at every row that was chosen. Shapes as in {@link conditionalMatmul}.
 */
export const conditionalMatmulBackwardWeight = operation<Choices>()('conditionalMatmulBackwardWeight', {
  operands: {
    input: input('f32', 'rows', 'inputs'),
    gradOutput: input('f32', 'rows', 'choices', 'blockSize'),
    chosen: input('i32', 'rows', 'choices'),
    gradWeight: updated('f32'),
    gradBias: optional(updated('f32', 'blocks', 'blockSize')),
    rowMask: optional(updated('i32', 'blocks', 'blockSize')),
  },
  numbers: [...numbers],
  measure: (a) => choiceNumbers(a.input, a.gradWeight, a.chosen, a.blockSize),
});
