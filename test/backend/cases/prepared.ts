import { type Precision, precisions } from '../../../src/backend/prepared_weight.ts';
import type { Random } from '../random.ts';
import { input, normal, type OperationCase, output, sums, updated } from './case.ts';
import { decided, shapeOf, type Variant } from './fff.ts';

interface LinearVariant {
  rows: number;
  inputs: number;
  outputs: number;
  bias?: boolean;
  activation?: 'gelu';
  accumulate?: boolean;
}

/** Tails of rows, of outputs, of the groups that one instruction multiplies; several tasks of rows and of columns. */
const linearVariants: LinearVariant[] = [
  { rows: 0, inputs: 8, outputs: 8 },
  { rows: 1, inputs: 1, outputs: 1 },
  { rows: 2, inputs: 2, outputs: 40 },
  { rows: 3, inputs: 5, outputs: 1000, bias: true },
  { rows: 1, inputs: 768, outputs: 129, bias: true },
  { rows: 33, inputs: 301, outputs: 17, accumulate: true },
  { rows: 300, inputs: 67, outputs: 257, bias: true },
  { rows: 8, inputs: 64, outputs: 48, bias: true, activation: 'gelu' },
  { rows: 140, inputs: 130, outputs: 200, activation: 'gelu' },
  ...Array.from({ length: 17 }, (_, i) => ({ rows: i + 1, inputs: 32 + i, outputs: 66 - i, bias: i % 2 === 0 })),
];

const linear = (precision: Precision, { rows, inputs, outputs, bias, activation, accumulate = false }: LinearVariant): OperationCase => ({
  name: `linear ${rows} x ${inputs} x ${outputs} prepared in ${precision}${bias ? ' with bias' : ''}${activation ? ', GELU' : ''}${accumulate ? ', accumulates' : ''}`,
  tolerance: sums,
  operands: (random) => ({
    input: normal(random, [rows, inputs]),
    weight: normal(random, [outputs, inputs]),
    ...(bias && { bias: normal(random, [outputs]) }),
    output: accumulate ? updated(normal(random, [rows, outputs])) : output([rows, outputs]),
  }),
  forward(device, { input, weight, bias, output }) {
    using prepared = device.prepareLinear({ weight, precision });
    device.linear({ input, weight: prepared, bias, output, activation, accumulate });
  },
});

const fffVariants: Variant[] = [
  { rows: 5, width: 16, trees: 8, depth: 0 },
  { rows: 0, width: 8, trees: 2, depth: 2 },
  { rows: 1, width: 17, trees: 5, depth: 2 },
  { rows: 9, width: 1, trees: 1, depth: 2 },
  { rows: 17, width: 100, trees: 3, depth: 5, accumulate: true },
  { rows: 300, width: 70, trees: 2, depth: 6 },
  { rows: 300, width: 30, trees: 2, depth: 7 },
  { rows: 40, width: 768, trees: 1, depth: 5 },
  { rows: 5, width: 16, trees: 2, depth: 0, leafWidth: 3 },
  { rows: 1, width: 17, trees: 2, depth: 2, leafWidth: 8 },
  { rows: 30, width: 100, trees: 3, depth: 3, leafWidth: 8, accumulate: true },
  { rows: 300, width: 70, trees: 1, depth: 6, leafWidth: 3 },
  { rows: 1, width: 17, trees: 5, depth: 2, thresholds: true },
  { rows: 300, width: 70, trees: 2, depth: 6, thresholds: true },
  { rows: 30, width: 100, trees: 3, depth: 3, leafWidth: 8, accumulate: true, thresholds: true },
];

const fff = (precision: Precision, variant: Variant): OperationCase => {
  const { rows, width, trees, depth, leafWidth, accumulate = false } = variant;
  return {
    name: `fff ${shapeOf(variant)} prepared in ${precision}${accumulate ? ', accumulates' : ''}`,
    tolerance: sums,
    operands: (random) => ({
      ...decided(random, variant, [precision]),
      output: accumulate ? updated(normal(random, [rows, width])) : output([rows, width]),
      pathNodes: output([rows, trees, depth + 1], 'i32'),
      logits: output([rows, trees, depth + (leafWidth ?? 1)]),
    }),
    forward(device, { input, nodes, bias, thresholds, output, pathNodes, logits }) {
      using prepared = device.prepareNodes({ nodes, precision });
      device.fff({ input, nodes: prepared, bias, thresholds, trees, depth, leafWidth, output, accumulate, pathNodes, logits });
    },
  };
};

/** Every third row is nothing but zeros, for which i8 has no scale. */
const holed = (random: Random, rows: number, width: number) =>
  input(
    [rows, width],
    random.normals(rows * width).map((x, i) => (Math.floor(i / width) % 3 === 1 ? 0 : x)),
  );

const zeroRows = (precision: Precision): OperationCase[] => [
  {
    name: `linear 5 x 20 x 40 prepared in ${precision}, rows of zeros`,
    tolerance: sums,
    operands: (random) => ({
      input: holed(random, 5, 20),
      weight: holed(random, 40, 20),
      bias: normal(random, [40]),
      output: output([5, 40]),
    }),
    forward(device, { input, weight, bias, output }) {
      using prepared = device.prepareLinear({ weight, precision });
      device.linear({ input, weight: prepared, bias, output });
    },
  },
  {
    name: `fff 5 x 20, 2 x depth 0 x leaf width 5 prepared in ${precision}, rows of zeros`,
    tolerance: sums,
    operands: (random) => ({
      input: holed(random, 5, 20),
      nodes: { ...holed(random, 20, 20), shape: [10, 40] }, // a neuron is two rows: some have no w_in, some no w_out
      bias: normal(random, [10]),
      output: output([5, 20]),
      logits: output([5, 2, 5]),
    }),
    forward(device, { input, nodes, bias, output, logits }) {
      using prepared = device.prepareNodes({ nodes, precision });
      device.fff({ input, nodes: prepared, bias, trees: 2, depth: 0, leafWidth: 5, output, logits });
    },
  },
];

export const preparedCases: OperationCase[] = precisions.flatMap((precision) => [
  ...linearVariants.map((variant) => linear(precision, variant)),
  ...fffVariants.map((variant) => fff(precision, variant)),
  ...zeroRows(precision),
]);
