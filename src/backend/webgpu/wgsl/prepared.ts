/** Weights for inference, and what is computed with them. A row is padded to 64 elements; of i8 the rows' scales follow behind all rows. */
import { neuronsPerTree } from '../../tree_shape.ts';
import { ceilDivide, elementStage, type Kernel, type Numbers, type Stage } from '../kernel.ts';
import { type TreeCode, treeConstants, walkCode } from './fff.ts';
import { epilogue } from './linear.ts';
import { matrixProduct } from './matrix_product.ts';

const padded = (count: number) => 64 * ceilDivide(count, 64);
/** Elements of a word, by the precisions' numbers: f32, bf16, i8. */
const perWord = [1, 2, 4];
const wordsOf = (columns: number, precision: number) => padded(columns) / perWord[precision];

/** A stage that rounds rows to words: `value` is WGSL of element i of `row`. A workgroup a row. */
function rounding(name: string, operands: readonly string[], precision: number, value: string, set: string, setScale: string): Stage {
  const element = `fn value_at(row: u32, i: u32) -> f32 { if (i >= p.columns) { return 0.0; } return ${value}; }`;
  const word = [
    'bitcast<u32>(value_at(row, w))',
    '(bitcast<u32>(to_bf16(value_at(row, 2u * w))) >> 16u) | bitcast<u32>(to_bf16(value_at(row, 2u * w + 1u)))',
    `round_to_i8(value_at(row, 4u * w), inverse) | (round_to_i8(value_at(row, 4u * w + 1u), inverse) << 8u)
      | (round_to_i8(value_at(row, 4u * w + 2u), inverse) << 16u) | (round_to_i8(value_at(row, 4u * w + 3u), inverse) << 24u)`,
  ][precision];
  return {
    name,
    operands,
    groups: (numbers) => numbers.weightRows,
    uses: [[], ['to_bf16'], ['workgroup_max_bits', 'round_to_i8']][precision],
    code: () => `
      ${element}
      fn run(row: u32, lane: u32) {
        ${
          precision === 2
            ? `var most = 0u;
        for (var i = lane; i < p.columns; i += 64u) { most = max(most, bitcast<u32>(value_at(row, i)) & 0x7fffffffu); }
        most = workgroup_max_bits(most, lane);
        let inverse = inverse_scale(most);
        if (lane == 0u) { ${setScale} }`
            : ''
        }
        for (var w = lane; w < p.words; w += 64u) { let word = ${word}; ${set} }
      }`,
  };
}

/** The making of a prepared weight, of `rows` rows of the operand. */
function preparing(
  operand: 'weight' | 'nodes',
  shape: (numbers: Numbers) => { weightRows: number; columns: number; allRows: number },
  what: (row: number) => string,
): Kernel {
  return {
    constants: ['precision'],
    derive: (numbers) => {
      const { weightRows, columns, allRows } = shape(numbers);
      const words = wordsOf(columns, numbers.precision);
      return { weightRows, columns, words, scales: allRows * words, elements: weightRows * columns };
    },
    error: (_, row) =>
      `${operand === 'weight' ? 'prepareLinear' : 'prepareNodes'}: the weights of ${what(row)} are not finite and cannot be rounded to i8`,
    stages: ({ precision }) => [
      ...(precision === 2
        ? [
            elementStage(
              ({ elements }) => elements,
              `fn element(i: u32) { if (!is_finite(get_${operand}(i))) { report(i / p.columns); } }`,
              {
                name: 'check',
                operands: [operand],
                reports: 'each',
                uses: ['is_finite'],
              },
            ),
          ]
        : []),
      rounding(
        'rows',
        [operand, 'data'],
        precision,
        `get_${operand}(row * p.columns + i)`,
        'set_data(row * p.words + w, word);',
        'set_data(p.scales + row, bitcast<u32>(row_scale(most)));',
      ),
    ],
  };
}

export const prepareLinear = preparing(
  'weight',
  ({ outputs, inputs }) => ({ weightRows: outputs, columns: inputs, allRows: padded(outputs) }),
  (row) => `output ${row}`,
);

/** A node is two rows: w_in and w_out. */
export const prepareNodes = preparing(
  'nodes',
  ({ count, columns }) => ({ weightRows: 2 * count, columns: columns / 2, allRows: 2 * count }),
  (row) => `neuron ${row >> 1}`,
);

export const linearPrepared: Kernel = {
  constants: ['gelu', 'accumulate', 'precision'],
  derive: ({ rows, inputs, outputs, precision }) => {
    const words = wordsOf(inputs, precision);
    return { weightRows: rows, columns: inputs, words, scales: padded(outputs) * words, inputScales: rows * words };
  },
  scratch: ({ rows, words, precision }) => (precision === 2 ? Math.max(4, 4 * rows * (words + 1)) : 0),
  stages: (numbers) => {
    const { precision, rows, gelu } = numbers;
    const uses = [...(gelu ? ['gelu'] : []), ...(precision === 1 ? ['to_bf16'] : precision === 2 ? ['dot4'] : [])];
    const common = { rows: 'rows', columns: 'outputs', uses, numbers, thin: rows <= 8 };
    if (precision === 2) {
      const round = rounding(
        'round input',
        ['input'],
        2,
        'get_input(row * p.columns + i)',
        'set_scratch(row * p.words + w, word);',
        'set_scratch(p.inputScales + row, bitcast<u32>(row_scale(most)));',
      );
      const product = matrixProduct({
        ...common,
        operands: ['weight', 'bias', 'output', 'base'],
        depth: 'words',
        type: 'packed',
        left: { value: () => 'get_scratch(row * p.words + k)', adjacent: 'k' },
        right: { value: () => 'get_weight(column * p.words + k)', adjacent: 'k' },
        store: (numbers) =>
          epilogue(numbers)
            .replace('sum: f32', 'products: i32')
            .replace(
              'let z =',
              'let scale = bitcast<f32>(get_scratch(p.inputScales + row)) * bitcast<f32>(get_weight(p.scales + column)); let sum = f32(products) * scale; let z =',
            ),
      });
      return [round, product];
    }
    const word = 'get_weight(column * p.words + k)';
    return [
      matrixProduct({
        ...common,
        depth: 'inputs',
        left: {
          value: () => (precision === 1 ? 'to_bf16(get_input(row * p.inputs + k))' : 'get_input(row * p.inputs + k)'),
          adjacent: 'k',
        },
        right: {
          value: () =>
            precision === 1 ? 'bitcast<f32>((get_weight(column * p.words + k / 2u) >> (16u * (k & 1u))) << 16u)' : `bitcast<f32>(${word})`,
          adjacent: 'k',
        },
        store: epilogue,
      }),
    ];
  },
};

const node = (part: 0 | 1, word: string) => `get_nodes((2u * neuron + ${part}u) * p.words + ${word})`;

/** As the trees of f32, a word at a time. */
const trees: readonly TreeCode[] = [
  {
    perWord: 1,
    logit: `
      var sum = 0.0;
      for (var w = 0u; w < words; w++) {
        let word = w * 64u + lane;
        if (word < p.words) { sum += x[w] * bitcast<f32>(${node(0, 'word')}); }
      }
      let z = workgroup_sum(sum, lane) + get_bias(neuron);`,
    add: `
      for (var w = 0u; w < words; w++) {
        let word = w * 64u + lane;
        if (word < p.words) { y[w] += activation * bitcast<f32>(${node(1, 'word')}); }
      }`,
  },
  {
    perWord: 2,
    functions: 'fn pair(word: u32) -> vec2f { return vec2f(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u)); }',
    prepare: 'for (var e = 0u; e < 2u * words; e++) { x[e] = to_bf16(x[e]); }',
    logit: `
      var sum = 0.0;
      for (var w = 0u; w < words; w++) {
        let word = w * 64u + lane;
        if (word < p.words) { let weights = pair(${node(0, 'word')}); sum += x[2u * w] * weights.x + x[2u * w + 1u] * weights.y; }
      }
      let z = workgroup_sum(sum, lane) + get_bias(neuron);`,
    add: `
      for (var w = 0u; w < words; w++) {
        let word = w * 64u + lane;
        if (word < p.words) {
          let weights = pair(${node(1, 'word')});
          y[2u * w] += activation * weights.x;
          y[2u * w + 1u] += activation * weights.y;
        }
      }`,
  },
  {
    perWord: 4,
    prepare: `
      var most = 0u;
      for (var e = 0u; e < 4u * words; e++) { most = max(most, bitcast<u32>(x[e]) & 0x7fffffffu); }
      most = workgroup_max_bits(most, lane);
      let inverse = inverse_scale(most);
      let input_scale = row_scale(most);
      var packed: array<u32, words>;
      for (var w = 0u; w < words; w++) {
        for (var e = 0u; e < 4u; e++) { packed[w] |= round_to_i8(x[4u * w + e], inverse) << (8u * e); }
      }`,
    logit: `
      var sum = 0;
      for (var w = 0u; w < words; w++) {
        let word = w * 64u + lane;
        if (word < p.words) { sum += dot4(packed[w], ${node(0, 'word')}); }
      }
      let z = f32(workgroup_integer_sum(sum, lane)) * (input_scale * bitcast<f32>(get_nodes(p.scales + 2u * neuron))) + get_bias(neuron);`,
    add: `
      let factor = activation * bitcast<f32>(get_nodes(p.scales + 2u * neuron + 1u));
      for (var w = 0u; w < words; w++) {
        let word = w * 64u + lane;
        if (word < p.words) {
          let weights = ${node(1, 'word')};
          for (var e = 0u; e < 4u; e++) { y[4u * w + e] += factor * f32(bitcast<i32>(weights << (24u - 8u * e)) >> 24u); }
        }
      }`,
  },
];

export const fffPrepared: Kernel = {
  constants: [...treeConstants, 'precision'],
  derive: ({ width, trees, depth, leafWidth, precision }) => {
    const words = wordsOf(width, precision);
    return { words, scales: 2 * trees * neuronsPerTree(depth, leafWidth) * words };
  },
  stages: ({ precision }) => [
    {
      name: 'tokens',
      groups: ({ rows }) => rows,
      uses: [
        'gelu',
        ...[['workgroup_sum'], ['workgroup_sum', 'to_bf16'], ['workgroup_integer_sum', 'workgroup_max_bits', 'round_to_i8', 'dot4']][
          precision
        ],
      ],
      code: (numbers) => walkCode(numbers, trees[precision]),
    },
  ],
};
