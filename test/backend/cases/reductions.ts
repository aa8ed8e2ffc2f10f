import { input, normal, type OperationCase, output, sums, updated } from './case.ts';

export const reductionCases: OperationCase[] = [
  ...[0, 1, 67, 5000, 40000].map(
    (count): OperationCase => ({
      name: `sum and sumOfSquares ${count}`,
      tolerance: sums,
      operands: (random) => ({
        input: input([count], random.normals(count).map(Math.abs)),
        sum: output([1]),
        added: updated(normal(random, [1])),
        squares: output([1]),
      }),
      forward(device, { input, sum, added, squares }) {
        device.sum({ input, output: sum });
        device.sum({ input, output: added, accumulate: true });
        device.sumOfSquares({ input, output: squares });
      },
    }),
  ),
  ...[
    [40, 19],
    [60, 1000],
  ].map(
    ([rows, width]): OperationCase => ({
      name: `sumOfSquares ${rows} x ${width}, untouched rows are not read`,
      tolerance: sums,
      operands: (random) => {
        const rowMask = random.integers(rows, 2);
        return {
          input: input(
            [rows, width],
            random.normals(rows * width).map((x, i) => (rowMask[Math.floor(i / width)] ? x : Number.NaN)),
          ),
          rowMask: input([rows], rowMask),
          output: output([1]),
        };
      },
      forward: (device, { input, rowMask, output }) => device.sumOfSquares({ input, rowMask, output }),
    }),
  ),
  ...[
    [0, 5],
    [1, 1],
    [9, 33],
    [300, 700],
  ].map(
    ([rows, width]): OperationCase => ({
      name: `columnMean ${rows} x ${width}`,
      tolerance: sums,
      operands: (random) => ({ input: normal(random, [rows, width]), output: output([width]) }),
      forward: (device, { input, output }) => device.columnMean({ input, output }),
    }),
  ),
];
