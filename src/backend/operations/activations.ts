/** Activation functions, of every element by itself. */
import { inPlace, input, operation, output } from './operation.ts';

/** Exact GELU, x Phi(x) by erf. output may be input. */
export const gelu = operation()('gelu', {
  operands: { input: input('f32'), output: inPlace(output('f32', 'count'), 'input') },
  numbers: ['count'],
  measure: ({ input }) => [input.size],
});

/** gradInput = gradOutput gelu'(input); gradInput may be gradOutput. */
export const geluBackward = operation()('geluBackward', {
  operands: { input: input('f32'), gradOutput: input('f32', 'count'), gradInput: inPlace(output('f32', 'count'), 'gradOutput') },
  numbers: ['count'],
  measure: ({ input }) => [input.size],
});

/** GELU by the hyperbolic tangent: x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 (arXiv 1606.08415), transformers' gelu_new. output may be input. */
export const geluTanh = operation()('geluTanh', {
  operands: { input: input('f32'), output: inPlace(output('f32', 'count'), 'input') },
  numbers: ['count'],
  measure: ({ input }) => [input.size],
});

/** gradInput = gradOutput geluTanh'(input); gradInput may be gradOutput. */
export const geluTanhBackward = operation()('geluTanhBackward', {
  operands: { input: input('f32'), gradOutput: input('f32', 'count'), gradInput: inPlace(output('f32', 'count'), 'gradOutput') },
  numbers: ['count'],
  measure: ({ input }) => [input.size],
});

/** SiLU, x / (1 + e^-x) (arXiv 1702.03118). output may be input. */
export const silu = operation()('silu', {
  operands: { input: input('f32'), output: inPlace(output('f32', 'count'), 'input') },
  numbers: ['count'],
  measure: ({ input }) => [input.size],
});

/** gradInput = gradOutput silu'(input); gradInput may be gradOutput. */
export const siluBackward = operation()('siluBackward', {
  operands: { input: input('f32'), gradOutput: input('f32', 'count'), gradInput: inPlace(output('f32', 'count'), 'gradOutput') },
  numbers: ['count'],
  measure: ({ input }) => [input.size],
});

/** output may be input. */
export const tanh = operation()('tanh', {
  operands: { input: input('f32'), output: inPlace(output('f32', 'count'), 'input') },
  numbers: ['count'],
  measure: ({ input }) => [input.size],
});

/** From the forward's output: gradInput = gradOutput (1 - output^2); gradInput may be gradOutput. */
export const tanhBackward = operation()('tanhBackward', {
  operands: { output: input('f32'), gradOutput: input('f32', 'count'), gradInput: inPlace(output('f32', 'count'), 'gradOutput') },
  numbers: ['count'],
  measure: ({ output }) => [output.size],
});

/** output = max(input, 0); output may be input. */
export const relu = operation()('relu', {
  operands: { input: input('f32'), output: inPlace(output('f32', 'count'), 'input') },
  numbers: ['count'],
  measure: ({ input }) => [input.size],
});

/** From the forward's output: gradInput = gradOutput where output > 0, else 0; gradInput may be gradOutput. */
export const reluBackward = operation()('reluBackward', {
  operands: { output: input('f32'), gradOutput: input('f32', 'count'), gradInput: inPlace(output('f32', 'count'), 'gradOutput') },
  numbers: ['count'],
  measure: ({ output }) => [output.size],
});
