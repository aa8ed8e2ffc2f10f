import { inPlace, input, operation, optional, output, updated } from './operation.ts';
import { rowsOf } from './shapes.ts';

/**
 * output[r] = gamma (input[r] - mean) / sqrt(variance + epsilon) + beta, over the last dimension; biased variance.
 * input, output [rows, width]; gamma, beta [width]; mean and rstd, the reciprocal standard deviation, both [rows], are kept for the backward if given.
 */
export const layerNorm = operation<{ epsilon: number }>()('layerNorm', {
  operands: {
    input: input('f32'),
    gamma: input('f32', 'width'),
    beta: input('f32', 'width'),
    output: output('f32', 'rows', 'width'),
    mean: optional(output('f32', 'rows')),
    rstd: optional(output('f32', 'rows')),
  },
  numbers: ['rows', 'width', 'epsilon'],
  measure: ({ input, gamma, epsilon }) => [rowsOf('input', input, gamma.size), gamma.size, epsilon],
});

/** gradInput is overwritten, or added to with `accumulate` (a residual's gradient is already there); gradGamma and gradBeta, if given, are added to. gradInput may be gradOutput unless accumulating. */
export const layerNormBackward = operation<{ accumulate?: boolean }>()('layerNormBackward', {
  operands: {
    input: input('f32'),
    gamma: input('f32', 'width'),
    mean: input('f32', 'rows'),
    rstd: input('f32', 'rows'),
    gradOutput: input('f32', 'rows', 'width'),
    gradInput: inPlace(output('f32', 'rows', 'width'), 'gradOutput'),
    gradGamma: optional(updated('f32', 'width')),
    gradBeta: optional(updated('f32', 'width')),
  },
  numbers: ['rows', 'width', 'accumulate'],
  measure: ({ input, gamma, accumulate }) => [rowsOf('input', input, gamma.size), gamma.size, accumulate ? 1 : 0],
});
