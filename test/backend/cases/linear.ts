import { type ProductPrecision, productPrecisions } from '../../../src/backend/prepared_weight.ts';
import { normal, type OperationCase, output, sums, updated } from './case.ts';

interface Variant {
  rows: number;
  inputs: number;
  outputs: number;
  bias?: boolean;
  accumulate?: boolean;
}

/** Sizes that meet every tail of a blocked matrix multiplication: of its rows, its columns, its depth, its vectors and its blocks. */
const shapes = [
  [0, 8, 8],
  [1, 1, 1],
  [2, 1, 40],
  [2, 300, 5],
  [1, 768, 129],
  [5, 16, 16],
  [128, 64, 192],
  [65, 256, 1],
  [33, 1000, 17],
  [3, 5, 1000],
  [200, 129, 257],
  [97, 513, 40],
  [1024, 33, 65],
  [301, 300, 310],
];

const variants: Variant[] = [
  ...shapes.map(([rows, inputs, outputs]) => ({ rows, inputs, outputs })),
  ...Array.from({ length: 17 }, (_, i) => ({ rows: i + 1, inputs: 32 + i, outputs: 66 - i })),
  { rows: 5, inputs: 9, outputs: 11, bias: false },
  { rows: 5, inputs: 9, outputs: 11, accumulate: true },
  { rows: 19, inputs: 70, outputs: 35, bias: false, accumulate: true },
];

const linear = (precision: ProductPrecision, { rows, inputs, outputs, bias = true, accumulate = false }: Variant): OperationCase => ({
  name: `linear ${rows} x ${inputs} x ${outputs} in ${precision}${bias ? '' : ', no bias'}${accumulate ? ', accumulates' : ''}`,
  tolerance: sums,
  operands: (random) => {
    const added = (shape: number[]) => (accumulate ? updated(normal(random, shape)) : output(shape));
    return {
      input: normal(random, [rows, inputs]),
      weight: normal(random, [outputs, inputs]),
      ...(bias && { bias: normal(random, [outputs]), gradBias: updated(normal(random, [outputs])) }),
      output: added([rows, outputs]),
      gradOutput: normal(random, [rows, outputs]),
      gradInput: added([rows, inputs]),
      gradWeight: updated(normal(random, [outputs, inputs])),
    };
  },
  forward: (device, { input, weight, bias, output }) => device.linear({ input, weight, bias, output, accumulate, precision }),
  backward(device, { input, weight, gradOutput, gradInput, gradWeight, gradBias }) {
    device.linearBackwardInput({ gradOutput, weight, gradInput, accumulate, precision });
    device.linearBackwardWeight({ input, gradOutput, gradWeight, gradBias, precision });
  },
  // Differentiating the large ones would only repeat the small ones, and what is rounded has no slope.
  gradient:
    precision !== 'f32' || rows * inputs * outputs > 10000
      ? undefined
      : {
          outputs: { output: 'gradOutput' },
          inputs: { input: 'gradInput', weight: 'gradWeight', ...(bias && { bias: 'gradBias' }) },
        },
});

const fused = [
  { rows: 1, inputs: 33, outputs: 17, bias: true, precision: 'f32' as const },
  { rows: 7, inputs: 12, outputs: 31, bias: true, precision: 'f32' as const },
  { rows: 13, inputs: 20, outputs: 70, bias: false, precision: 'f32' as const },
  { rows: 13, inputs: 21, outputs: 70, bias: true, precision: 'bf16' as const },
].map(
  ({ rows, inputs, outputs, bias, precision }): OperationCase => ({
    name: `linear ${rows} x ${inputs} x ${outputs} with GELU in ${precision}${bias ? '' : ', no bias'}`,
    tolerance: sums,
    operands: (random) => ({
      input: normal(random, [rows, inputs]),
      weight: normal(random, [outputs, inputs], 0.3),
      ...(bias && { bias: normal(random, [outputs]) }),
      output: output([rows, outputs]),
      preActivation: output([rows, outputs]),
      inference: output([rows, outputs]),
      gradOutput: normal(random, [rows, outputs]),
      gradPreActivation: output([rows, outputs]),
      gradInput: output([rows, inputs]),
    }),
    forward(device, { input, weight, bias, output, preActivation, inference }) {
      device.linear({ input, weight, bias, output, activation: 'gelu', preActivation, precision });
      device.linear({ input, weight, bias, output: inference, activation: 'gelu', precision });
    },
    backward(device, { weight, preActivation, gradOutput, gradPreActivation, gradInput }) {
      device.geluBackward({ input: preActivation, gradOutput, gradInput: gradPreActivation });
      device.linearBackwardInput({ gradOutput: gradPreActivation, weight, gradInput, precision });
    },
    gradient: precision === 'f32' ? { outputs: { output: 'gradOutput' }, inputs: { input: 'gradInput' } } : undefined,
  }),
);

export const linearCases: OperationCase[] = [
  ...productPrecisions.flatMap((precision) => variants.map((variant) => linear(precision, variant))),
  ...fused,
];
