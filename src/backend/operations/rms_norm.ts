import { input, operation, output } from './operation.ts';
import { rowsOf } from './shapes.ts';

/**
 * output[r] = gamma input[r] / sqrt(mean of input[r]^2 + epsilon), over the last dimension (arXiv 1910.07467). input, output [rows, width];
 * gamma [width]. For inference: it keeps nothing for a backward.
 */
export const rmsNorm = operation<{ epsilon: number }>()('rmsNorm', {
  operands: { input: input('f32'), gamma: input('f32', 'width'), output: output('f32', 'rows', 'width') },
  numbers: ['rows', 'width', 'epsilon'],
  measure: ({ input, gamma, epsilon }) => [rowsOf('input', input, gamma.size), gamma.size, epsilon],
});
