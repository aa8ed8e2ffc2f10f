import { dropoutKey } from '../../../src/backend/dropout.ts';
import { elementwiseSizes, exact, input, normal, type OperationCase, output, rounding, updated } from './case.ts';

const moves: OperationCase[] = [
  ...elementwiseSizes.map(
    (size): OperationCase => ({
      name: `fill ${size}`,
      tolerance: exact,
      operands: () => ({ floats: output([size]), integers: output([size], 'i32') }),
      forward(device, { floats, integers }) {
        device.fill({ output: floats, value: 2.5 });
        device.fill({ output: integers, value: -3.7 });
      },
    }),
  ),
  ...[
    [5, 7],
    [3, 6007],
  ].map(
    ([rows, columns]): OperationCase => ({
      name: `copy ${rows} x ${columns}, floats and integers`,
      tolerance: exact,
      operands: (random) => ({
        floats: normal(random, [rows, columns]),
        integers: input([rows, columns], random.integers(rows * columns, 1e9)),
        floatCopy: output([rows * columns]),
        integerCopy: output([columns, rows], 'i32'),
      }),
      forward(device, { floats, integers, floatCopy, integerCopy }) {
        device.copy({ input: floats, output: floatCopy });
        device.copy({ input: integers, output: integerCopy });
      },
    }),
  ),
];

const additions: OperationCase[] = [
  ...elementwiseSizes.map(
    (size): OperationCase => ({
      name: `add ${size}`,
      tolerance: rounding,
      operands: (random) => ({ a: normal(random, [size]), b: normal(random, [size]), sum: output([size]), scaled: output([size]) }),
      forward(device, { a, b, sum, scaled }) {
        device.add({ a, b, output: sum });
        device.add({ a, b, scale: -0.37, output: scaled });
      },
    }),
  ),
  {
    name: 'add in place: output is a, output is b',
    tolerance: rounding,
    operands: (random) => ({ a: updated(normal(random, [37])), b: normal(random, [37]), c: updated(normal(random, [37])) }),
    forward(device, { a, b, c }) {
      device.add({ a, b, output: a, scale: 0.5 });
      device.add({ a: b, b: c, output: c, scale: 3 });
    },
  },
];

const products: OperationCase[] = elementwiseSizes.map(
  (size): OperationCase => ({
    name: `multiply ${size}, also in place`,
    tolerance: rounding,
    operands: (random) => ({
      a: normal(random, [size]),
      b: normal(random, [size]),
      output: output([size]),
      inPlace: updated(normal(random, [size])),
    }),
    forward(device, { a, b, output, inPlace }) {
      device.multiply({ a, b, output });
      device.multiply({ a, b: inPlace, output: inPlace });
    },
  }),
);

const dropouts: OperationCase[] = [
  { size: 20011, probability: 0.25 },
  { size: 4099, probability: 0.1 },
  { size: 67, probability: 0.9 },
  { size: 67, probability: 0 },
  { size: 0, probability: 0.5 },
].map(
  ({ size, probability }): OperationCase => ({
    name: `dropout ${size}, probability ${probability}, also in place`,
    tolerance: rounding,
    operands: (random) => ({ input: normal(random, [size]), output: output([size]), inPlace: updated(normal(random, [size])) }),
    forward(device, { input, output, inPlace }) {
      const dropout = { probability, key: dropoutKey(3, 14, 15) };
      device.dropout({ input, output, dropout });
      device.dropout({ input: inPlace, output: inPlace, dropout });
    },
  }),
);

const specialDropouts: OperationCase[] = [
  {
    name: 'dropout of infinities: what is dropped is 0',
    tolerance: exact,
    operands: () => ({ input: input([67], new Float32Array(67).fill(Number.NEGATIVE_INFINITY)), output: output([67]) }),
    forward: (device, { input, output }) => device.dropout({ input, output, dropout: { probability: 0.5, key: dropoutKey(3, 14, 15) } }),
  },
  {
    // Element 0 draws 1677721 / 2^24, which is below the probability but equals it once that is rounded to float32.
    name: 'dropout by a draw next to the probability',
    tolerance: exact,
    operands: (random) => ({ input: normal(random, [1]), output: output([1]) }),
    forward: (device, { input, output }) =>
      device.dropout({ input, output, dropout: { probability: 1677721 / 2 ** 24 + 1e-12, key: 23274463 } }),
  },
];

const rowAdditions = [
  [0, 5],
  [1, 1],
  [7, 33],
  [600, 40],
  [3, 20_000],
].map(
  ([rows, width]): OperationCase => ({
    name: `addRow ${rows} x ${width}`,
    tolerance: rounding,
    operands: (random) => ({
      row: normal(random, [width]),
      output: updated(normal(random, [rows, width])),
      scaled: updated(normal(random, [rows, width])),
    }),
    forward(device, { row, output, scaled }) {
      device.addRow({ row, output });
      device.addRow({ row, output: scaled, scale: -0.3 });
    },
  }),
);

export const elementwiseCases: OperationCase[] = [...moves, ...additions, ...products, ...rowAdditions, ...dropouts, ...specialDropouts];
