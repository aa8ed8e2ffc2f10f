import type { Kernel, Numbers } from '../kernel.ts';
import { matrixProduct } from './matrix_product.ts';

/** What a product's operands go through where it is computed in bf16, by the number that the precision has. */
const rounded = (precision: number, value: string) => (precision === 1 ? `to_bf16(${value})` : value);
const roundingUses = ({ precision }: Numbers) => (precision === 1 ? ['to_bf16'] : []);

/** What is added to: the output itself, or what would have been copied there. */
export const addend = `fn addend(at: u32) -> f32 {
    if (has_base) { return get_base(at); }
    return get_output(at);
  }`;

/** What becomes of a sum; the activations by their numbers. */
export const epilogue = ({ gelu, accumulate }: Numbers) => `
  ${accumulate ? addend : ''}
  fn store(row: u32, column: u32, sum: f32) {
    let at = row * p.outputs + column;
    let z = sum + get_bias(column);
    ${gelu ? 'let y = gelu(z);' : accumulate ? 'let y = z + addend(at);' : 'let y = z;'}
    set_output(at, y);
  }`;

export const linear: Kernel = {
  constants: ['gelu', 'accumulate', 'precision'],
  stages: (numbers) => [
    matrixProduct({
      rows: 'rows',
      columns: 'outputs',
      depth: 'inputs',
      thin: numbers.rows <= 8,
      uses: [...roundingUses(numbers), ...(numbers.gelu ? ['gelu'] : [])],
      numbers,
      left: { value: ({ precision }) => rounded(precision, 'get_input(row * p.inputs + k)'), adjacent: 'k' },
      right: { value: ({ precision }) => rounded(precision, 'get_weight(column * p.inputs + k)'), adjacent: 'k' },
      store: (numbers) => epilogue(numbers).replace('set_output(at', 'set_preActivation(at, z); set_output(at'),
    }),
  ],
};

export const linearBackwardInput: Kernel = {
  constants: ['accumulate', 'precision'],
  stages: (numbers) => [
    matrixProduct({
      rows: 'rows',
      columns: 'inputs',
      depth: 'outputs',
      uses: roundingUses(numbers),
      numbers,
      left: { value: ({ precision }) => rounded(precision, 'get_gradOutput(row * p.outputs + k)'), adjacent: 'k' },
      right: { value: ({ precision }) => rounded(precision, 'get_weight(k * p.inputs + column)'), adjacent: 'column' },
      store: ({ accumulate }) => `
        fn store(row: u32, column: u32, sum: f32) {
          let at = row * p.inputs + column;
          set_gradInput(at, sum${accumulate ? ' + get_gradInput(at)' : ''});
        }`,
    }),
  ],
};

export const linearBackwardWeight: Kernel = {
  constants: ['precision'],
  stages: (numbers) => [
    matrixProduct({
      operands: ['input', 'gradOutput', 'gradWeight'],
      rows: 'outputs',
      columns: 'inputs',
      depth: 'rows',
      uses: roundingUses(numbers),
      numbers,
      left: { value: ({ precision }) => rounded(precision, 'get_gradOutput(k * p.outputs + row)'), adjacent: 'row' },
      right: { value: ({ precision }) => rounded(precision, 'get_input(k * p.inputs + column)'), adjacent: 'column' },
      store: () => `
        fn store(row: u32, column: u32, sum: f32) {
          let at = row * p.inputs + column;
          set_gradWeight(at, get_gradWeight(at) + sum);
        }`,
    }),
    {
      name: 'bias',
      onlyWith: ['gradBias'],
      operands: ['gradOutput', 'gradBias'],
      groups: ({ outputs }) => outputs,
      uses: ['workgroup_sum'],
      code: () => `
        fn run(column: u32, lane: u32) {
          var sum = 0.0;
          for (var row = lane; row < p.rows; row += 64u) { sum += get_gradOutput(row * p.outputs + column); }
          sum = workgroup_sum(sum, lane);
          if (lane == 0u) { set_gradBias(column, get_gradBias(column) + sum); }
        }`,
    },
  ],
};
