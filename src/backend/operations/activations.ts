/** Activation functions, of every element by itself. */
import { inPlace, input, operation, output } from './operation.ts';

/** output = f(input); output may be input. */
const activation = (name: string) =>
  operation()(name, {
    operands: { input: input('f32'), output: inPlace(output('f32', 'count'), 'input') },
    numbers: ['count'],
    measure: ({ input }) => [input.size],
  });

/** gradInput = gradOutput f'(input); gradInput may be gradOutput. */
const backwardFromInput = (name: string) =>
  operation()(name, {
    operands: { input: input('f32'), gradOutput: input('f32', 'count'), gradInput: inPlace(output('f32', 'count'), 'gradOutput') },
    numbers: ['count'],
    measure: ({ input }) => [input.size],
  });

/** The same where the slope follows from the forward's output. */
const backwardFromOutput = (name: string) =>
  operation()(name, {
    operands: { output: input('f32'), gradOutput: input('f32', 'count'), gradInput: inPlace(output('f32', 'count'), 'gradOutput') },
    numbers: ['count'],
    measure: ({ output }) => [output.size],
  });

/** Exact GELU, x Phi(x) by erf (arXiv 1606.08415). */
export const gelu = activation('gelu');
export const geluBackward = backwardFromInput('geluBackward');

/** GELU by the hyperbolic tangent: x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 (arXiv 1606.08415), transformers' gelu_new. */
export const geluTanh = activation('geluTanh');
export const geluTanhBackward = backwardFromInput('geluTanhBackward');

/** SiLU, x / (1 + e^-x) (arXiv 1702.03118). */
export const silu = activation('silu');
export const siluBackward = backwardFromInput('siluBackward');

/** The hyperbolic tangent, whose slope is 1 - output^2. */
export const tanh = activation('tanh');
export const tanhBackward = backwardFromOutput('tanhBackward');

/** max(x, 0), whose slope is 1 where output > 0, else 0. */
export const relu = activation('relu');
export const reluBackward = backwardFromOutput('reluBackward');
