import { inPlace, input, operation, optional, output, updated } from './operation.ts';
import { rowsOf } from './shapes.ts';

/**
 * output[r] = gamma input[r] / sqrt(mean of input[r]^2 + epsilon), over the last dimension (arXiv 1910.07467). input, output [rows, width];
 * gamma [width]. rstd [rows], what each row is multiplied by, is kept for the backward if given.
 */
export const rmsNorm = operation<{ epsilon: number }>()('rmsNorm', {
  operands: {
    input: input('f32'),
    gamma: input('f32', 'width'),
    output: output('f32', 'rows', 'width'),
    rstd: optional(output('f32', 'rows')),
  },
  numbers: ['rows', 'width', 'epsilon'],
  measure: ({ input, gamma, epsilon }) => [rowsOf('input', input, gamma.size), gamma.size, epsilon],
});

/** gradInput is overwritten, or added to with `accumulate`; gradGamma, if given, is added to. gradInput may be gradOutput unless accumulating. */
export const rmsNormBackward = operation<{ accumulate?: boolean }>()('rmsNormBackward', {
  operands: {
    input: input('f32'),
    gamma: input('f32', 'width'),
    rstd: input('f32', 'rows'),
    gradOutput: input('f32', 'rows', 'width'),
    gradInput: inPlace(output('f32', 'rows', 'width'), 'gradOutput'),
    gradGamma: optional(updated('f32', 'width')),
  },
  numbers: ['rows', 'width', 'accumulate'],
  measure: ({ input, gamma, accumulate }) => [rowsOf('input', input, gamma.size), gamma.size, accumulate ? 1 : 0],
});
