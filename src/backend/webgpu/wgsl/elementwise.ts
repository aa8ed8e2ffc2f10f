import { elementKernel, type Kernel, type Numbers } from '../kernel.ts';
import { dropoutNumbers, dropoutTypes } from '../prelude.ts';

const count = (numbers: Numbers) => numbers.count;

/** Of one input: output = expression of x. */
const map = (expression: string, uses: readonly string[] = []): Kernel =>
  elementKernel(count, `fn element(i: u32) { let x = get_input(i); set_output(i, ${expression}); }`, { uses });

/** A backward by the forward's input x. */
const slope = (expression: string, uses: readonly string[] = []): Kernel =>
  elementKernel(count, `fn element(i: u32) { let x = get_input(i); set_gradInput(i, get_gradOutput(i) * (${expression})); }`, { uses });

export const fill = elementKernel(count, 'fn element(i: u32) { set_output(i, bitcast<u32>(p.value)); }', { types: { value: 'f32' } });

export const fillIntegers = elementKernel(count, 'fn element(i: u32) { set_output(i, p.value); }', { types: { value: 'i32' } });

export const copy = elementKernel(count, 'fn element(i: u32) { set_output(i, get_input(i)); }');

export const add = elementKernel(count, 'fn element(i: u32) { set_output(i, get_a(i) + p.scale * get_b(i)); }', {
  types: { scale: 'f32' },
});

export const multiply = elementKernel(count, 'fn element(i: u32) { set_output(i, get_a(i) * get_b(i)); }');

export const addRow = elementKernel(
  ({ rows, width }) => rows * width,
  'fn element(i: u32) { set_output(i, get_output(i) + p.scale * get_row(i % p.width)); }',
  { types: { scale: 'f32' } },
);

export const gelu = map('gelu(x)', ['gelu']);
export const geluBackward = slope('gelu_slope(x)', ['gelu']);

export const geluTanh = map('gelu_tanh(x)', ['gelu_tanh']);
export const geluTanhBackward = slope('gelu_tanh_slope(x)', ['gelu_tanh']);

export const silu = map('x * logistic(x)', ['logistic']);
export const siluBackward = slope('logistic(x) * (1.0 + x * logistic(-x))', ['logistic']);

export const relu = map('select(x, 0.0, x <= 0.0)');
export const reluBackward = elementKernel(
  count,
  'fn element(i: u32) { set_gradInput(i, select(0.0, get_gradOutput(i), get_output(i) > 0.0)); }',
);

export const tanh = map('tangent(x)', ['tanh']);
export const tanhBackward = elementKernel(
  count,
  'fn element(i: u32) { let y = get_output(i); set_gradInput(i, get_gradOutput(i) * (1.0 - y * y)); }',
);

export const dropout = elementKernel(
  count,
  `fn element(i: u32) {
    let factor = dropout_factor(i);
    var y = 0.0;
    if (factor != 0.0) { y = get_input(i) * factor; }
    set_output(i, y);
  }`,
  { uses: ['dropout_factor'], derive: dropoutNumbers, types: dropoutTypes },
);
