import { ShapeError } from '../../errors.ts';
import { input, operation, optional, output, updated } from './operation.ts';
import { describe, widthOf } from './shapes.ts';

/** From sums of squares: output[0] = min(1, maximum / (norm + 1e-6)) and output[1] = norm, the square root of their sum (PyTorch's clip_grad_norm_). */
export const clipScale = operation<{ maximum: number }>()('clipScale', {
  operands: { sums: input('f32'), output: output('f32', 2) },
  numbers: ['count', 'maximum'],
  measure: ({ sums, maximum }) => [sums.size, maximum],
});

export interface AdamWNumbers {
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  weightDecay: number;
  /** Counted from 1. */
  step: number;
}

/**
 * One AdamW step (arXiv 1711.05101, in PyTorch's form), step counted from 1, in place on parameter, mean (first moment) and variance
 * (second moment), all [rows, ...]. gradientScale: the first element of that tensor multiplies the gradient (clipping). With rowMask
 * i32 [rows], gradient rows whose flag is 0 are zero and are not read; momentum and decay move such rows all the same.
 */
export const adamw = operation<AdamWNumbers>()('adamw', {
  operands: {
    parameter: updated('f32'),
    gradient: input('f32', 'rows', 'width'),
    mean: updated('f32', 'rows', 'width'),
    variance: updated('f32', 'rows', 'width'),
    rowMask: optional(input('i32')),
    gradientScale: optional(input('f32')),
  },
  numbers: ['rows', 'width', 'learningRate', 'beta1', 'beta2', 'epsilon', 'weightDecay', 'step'],
  measure: (a) => {
    const rows = a.rowMask?.size ?? 1;
    const width = widthOf(a.parameter, rows);
    if (a.gradientScale?.size === 0)
      throw new ShapeError(`gradientScale ${describe(a.gradientScale)} has no elements, expected a factor in the first`);
    if (!Number.isInteger(a.step) || a.step < 1) throw new ShapeError(`step ${a.step} is not a count from 1`);
    return [rows, width, a.learningRate, a.beta1, a.beta2, a.epsilon, a.weightDecay, a.step];
  },
});

/** Zeroes the rows of gradient [rows, ...] whose flag is not 0. The flags stay: several gradients can share them. */
export const clearRows = operation()('clearRows', {
  operands: { gradient: updated('f32'), rowMask: input('i32') },
  numbers: ['rows', 'width'],
  measure: ({ gradient, rowMask }) => [rowMask.size, widthOf(gradient, rowMask.size)],
});

/**
 * output[r] += input[r], of rows of [rows, ...] whose flag in inputMask is not 0, and their flags in rowMask are set: a row-sparse sum
 * becomes that of both. Flags of input stay: several gradients can share them.
 */
export const addRows = operation()('addRows', {
  operands: {
    input: input('f32', 'rows', 'width'),
    inputMask: input('i32', 'rows'),
    output: updated('f32', 'rows', 'width'),
    rowMask: updated('i32'),
  },
  numbers: ['rows', 'width'],
  measure: ({ output, rowMask }) => [rowMask.size, widthOf(output, rowMask.size)],
});
