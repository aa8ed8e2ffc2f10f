import type { Random } from '../random.ts';
import { exact, input, normal, type OperationCase, output, rounding, updated } from './case.ts';

interface Variant {
  what: string;
  shape: [number, number];
  step: number;
  epsilon: number;
  weightDecay: number;
  beta2?: number;
  clipped?: boolean;
  sparse?: boolean;
  /** Some rows have no moments; see {@link resting}. */
  resting?: boolean;
}

const variants: Variant[] = [
  { what: 'first step', shape: [3, 7], step: 1, epsilon: 1e-12, weightDecay: 0.01 },
  { what: 'no decay', shape: [1, 67], step: 2, epsilon: 1e-6, weightDecay: 0 },
  { what: 'late step', shape: [5, 33], step: 100000, epsilon: 1e-8, weightDecay: 0.01, beta2: 0.999 },
  { what: 'epsilon as large as the deviation', shape: [2, 9], step: 4, epsilon: 0.1, weightDecay: 0.01 },
  { what: 'clipped', shape: [4, 16], step: 10, epsilon: 1e-12, weightDecay: 0.01, clipped: true },
  { what: 'row-sparse', shape: [40, 19], step: 3, epsilon: 1e-12, weightDecay: 0.01, clipped: true, sparse: true },
  { what: 'many elements', shape: [300, 101], step: 1000, epsilon: 1e-12, weightDecay: 0.1, sparse: true },
  { what: 'many elements, all with a gradient', shape: [3, 11003], step: 20, epsilon: 1e-12, weightDecay: 0.1 },
  { what: 'rows at rest', shape: [60, 83], step: 3, epsilon: 1e-12, weightDecay: 0, sparse: true, resting: true },
  { what: 'rows at rest, decaying', shape: [12, 83], step: 3, epsilon: 1e-12, weightDecay: 0.1, sparse: true, resting: true },
  { what: 'no elements', shape: [0, 4], step: 1, epsilon: 1e-12, weightDecay: 0.01 },
];

/** Flags, and rows of normal values of which those without a flag must not be read. */
function rowSparse(random: Random, [rows, width]: [number, number]) {
  const rowMask = random.integers(rows, 2);
  const values = random.normals(rows * width).map((x, i) => (rowMask[Math.floor(i / width)] ? x : Number.NaN));
  return { rowMask: input([rows], rowMask), gradient: input([rows, width], values) };
}

/** Moments of which rows in turn have none, a variance in the last column alone, a mean there alone, and all. */
function resting(random: Random, [rows, width]: [number, number]) {
  const values = (deviation: number, keep: (row: number, last: boolean) => boolean) =>
    random.normals(rows * width, deviation).map((x, i) => (keep(Math.floor(i / width) % 4, i % width === width - 1) ? x : 0));
  const mean = values(0.1, (row, last) => row === 3 || (row === 2 && last));
  const variance = values(0.1, (row, last) => row > 1 || (row === 1 && last)).map((x) => x * x);
  return { mean: updated(input([rows, width], mean)), variance: updated(input([rows, width], variance)) };
}

const adamw = ({ what, shape, step, epsilon, weightDecay, beta2 = 0.98, clipped, sparse, resting: rests }: Variant): OperationCase => ({
  name: `adamw ${shape[0]} x ${shape[1]}, ${what}`,
  tolerance: rounding,
  operands: (random) => ({
    parameter: updated(normal(random, shape)),
    mean: updated(normal(random, shape, 0.1)),
    variance: updated(
      input(
        shape,
        random.normals(shape[0] * shape[1], 0.1).map((x) => x * x + 1e-4),
      ),
    ),
    gradient: normal(random, shape),
    ...(rests && resting(random, shape)),
    ...(sparse && rowSparse(random, shape)),
    ...(clipped && { gradientScale: input([2], [0.125, 8]) }),
  }),
  forward: (device, { parameter, gradient, mean, variance, rowMask, gradientScale }) =>
    device.adamw({
      parameter,
      gradient,
      mean,
      variance,
      rowMask,
      gradientScale,
      learningRate: 0.05,
      beta1: 0.9,
      beta2,
      epsilon,
      weightDecay,
      step,
    }),
});

export const optimizerCases: OperationCase[] = [
  ...variants.map(adamw),
  ...[
    { what: 'above the maximum', count: 5, maximum: 0.5 },
    { what: 'below the maximum', count: 21, maximum: 1000 },
    { what: 'of nothing', count: 0, maximum: 1 },
  ].map(
    ({ what, count, maximum }): OperationCase => ({
      name: `clipScale of a norm ${what}`,
      tolerance: rounding,
      operands: (random) => ({ sums: input([count], random.normals(count).map(Math.abs)), output: output([2]) }),
      forward: (device, { sums, output }) => device.clipScale({ sums, maximum, output }),
    }),
  ),
  ...[
    [40, 19],
    [60, 1000],
  ].map(
    ([rows, width]): OperationCase => ({
      name: `clearRows ${rows} x ${width}`,
      tolerance: exact,
      operands: (random) => ({ gradient: updated(normal(random, [rows, width])), rowMask: input([rows], random.integers(rows, 2)) }),
      forward: (device, { gradient, rowMask }) => device.clearRows({ gradient, rowMask }),
    }),
  ),
  ...[
    [40, 19],
    [60, 1000],
  ].map(
    ([rows, width]): OperationCase => ({
      name: `addRows ${rows} x ${width}`,
      tolerance: rounding,
      operands: (random) => ({
        input: normal(random, [rows, width]),
        inputMask: input([rows], random.integers(rows, 2)),
        output: updated(normal(random, [rows, width])),
        rowMask: updated(input([rows], random.integers(rows, 2))),
      }),
      forward: (device, { input, inputMask, output, rowMask }) => device.addRows({ input, inputMask, output, rowMask }),
    }),
  ),
];
