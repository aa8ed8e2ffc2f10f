import { exact, input, normal, type OperationCase, output, rounding, sums, updated } from './case.ts';

interface Variant {
  rows: number;
  width: number;
  count: number;
  scale?: boolean;
  accumulate?: boolean;
  skipIndex?: number;
  flags?: boolean;
}

const variants: Variant[] = [
  { rows: 6, width: 7, count: 11 },
  { rows: 0, width: 7, count: 11 },
  { rows: 1, width: 1, count: 1 },
  { rows: 9, width: 33, count: 4, scale: true },
  { rows: 5, width: 16, count: 6, accumulate: true },
  { rows: 12, width: 10, count: 3, scale: true, accumulate: true, skipIndex: 0 },
  { rows: 1000, width: 20, count: 5, skipIndex: 3, flags: true },
  { rows: 300, width: 257, count: 1000, scale: true },
  { rows: 300, width: 257, count: 1000, flags: true },
  { rows: 3, width: 40, count: 70, flags: true },
  { rows: 100, width: 3, count: 70000, flags: true }, // rows whose numbers have a third byte
];

const embedding = ({ rows, width, count, scale = false, accumulate = false, skipIndex, flags }: Variant): OperationCase => {
  const options = [
    `${rows} of ${count} x ${width}`,
    scale && 'scale',
    accumulate && 'accumulates',
    skipIndex !== undefined && 'skips padding',
    flags && 'flags rows',
  ];
  return {
    name: `embedding ${options.filter(Boolean).join(', ')}`,
    tolerance: sums,
    operands: (random) => ({
      table: normal(random, [count, width]),
      indices: input([rows], random.integers(rows, count)),
      ...(scale && { scale: normal(random, [1]), gradScale: updated(normal(random, [1])) }),
      output: accumulate ? updated(normal(random, [rows, width])) : output([rows, width]),
      gradOutput: normal(random, [rows, width]),
      gradTable: updated(normal(random, [count, width])),
      // Flags of earlier calls stay.
      ...(flags && {
        rowMask: updated(
          input(
            [count],
            Int32Array.from({ length: count }, (_, row) => (row % 9 === 0 ? 1 : 0)),
          ),
        ),
      }),
    }),
    forward: (device, { table, indices, scale, output }) => device.gather({ table, indices, scale, output, accumulate }),
    backward(device, { table, indices, scale, gradOutput, gradTable, gradScale, rowMask }) {
      device.scatterAdd({ indices, input: gradOutput, table: gradTable, rowMask, scale, skipIndex });
      if (gradScale) device.gatherScaleBackward({ table, indices, gradOutput, gradScale });
    },
    // The skipped index has a derivative that embeddingBackward leaves out on purpose.
    gradient:
      skipIndex !== undefined || rows * width > 1000 || count > 1000
        ? undefined
        : { outputs: { output: 'gradOutput' }, inputs: { table: 'gradTable', ...(scale && { scale: 'gradScale' }) } },
  };
};

const copies: OperationCase[] = [
  { rows: 0, width: 3, count: 5 },
  { rows: 6, width: 7, count: 11, inputWidth: 9, column: 2 },
  { rows: 5, width: 33, count: 5, inputWidth: 33, column: 0 },
  { rows: 40, width: 900, count: 60, inputWidth: 1000, column: 100 },
].map(
  ({ rows, width, count, inputWidth = width, column }): OperationCase => ({
    name: `scatterRows ${rows} of ${count} x ${width}`,
    tolerance: exact,
    operands: (random) => ({
      input: normal(random, [rows, inputWidth]),
      // A place twice: the later stays.
      indices: input(
        [rows],
        Int32Array.from({ length: rows }, (_, t) => (t === 1 ? 0 : (7 * t) % count)),
      ),
      table: updated(normal(random, [count, width])),
    }),
    forward: (device, { input, indices, table }) => device.scatterRows({ input, indices, table, column }),
  }),
);

export const embeddingCases: OperationCase[] = [
  ...copies,
  ...variants.map(embedding),
  {
    name: 'embedding gathers rows exactly',
    tolerance: exact,
    operands: (random) => ({
      table: normal(random, [9, 13]),
      indices: input([4], Int32Array.of(8, 0, 8, 3)),
      output: output([4, 13]),
    }),
    forward: (device, { table, indices, output }) => device.gather({ table, indices, output }),
  },
  {
    name: 'embeddingBackward scatters rows',
    tolerance: rounding,
    operands: (random) => ({
      indices: input([3], Int32Array.of(4, 1, 2)),
      gradOutput: normal(random, [3, 70]),
      gradTable: updated(normal(random, [5, 70])),
    }),
    forward: (device, { indices, gradOutput, gradTable }) => device.scatterAdd({ indices, input: gradOutput, table: gradTable }),
  },
];
