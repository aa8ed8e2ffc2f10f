import { input, normal, type OperationCase, output, rounding, sums, updated } from './case.ts';

interface Variant {
  rows: number;
  classes: number;
  spread?: number;
  ignored?: number;
  ignoreIndex?: number;
}

const variants: Variant[] = [
  { rows: 5, classes: 7 },
  { rows: 0, classes: 7 },
  { rows: 4, classes: 1 },
  { rows: 17, classes: 33, ignored: 5 },
  { rows: 6, classes: 5, ignored: 2, ignoreIndex: -1 },
  { rows: 3, classes: 8193, spread: 4 },
  { rows: 9, classes: 70, spread: 30 },
];

const crossEntropy = ({ rows, classes, spread = 2, ignored = 0, ignoreIndex = -100 }: Variant): OperationCase => ({
  name: `crossEntropy ${rows} x ${classes}, spread ${spread}, ${ignored} ignored`,
  tolerance: sums,
  operands: (random) => ({
    logits: normal(random, [rows, classes], spread),
    labels: input(
      [rows],
      random.integers(rows, classes).map((label, r) => (r < 2 * ignored && r % 2 === 0 ? ignoreIndex : label)),
    ),
    losses: output([rows]),
    inference: output([rows]),
    gradLogits: output([rows, classes]),
  }),
  forward(device, { logits, labels, losses, inference, gradLogits }) {
    device.crossEntropy({ logits, labels, losses, gradLogits, scale: 2.5, ignoreIndex });
    device.crossEntropy({ logits, labels, losses: inference, ignoreIndex });
  },
  gradient: classes > 1000 ? undefined : { outputs: { losses: 2.5 }, inputs: { logits: 'gradLogits' } },
});

export const lossCases: OperationCase[] = [
  ...variants.map(crossEntropy),
  {
    name: 'crossEntropy 11 x 37, gradient in place of the logits',
    tolerance: sums,
    operands: (random) => ({
      logits: updated(normal(random, [11, 37], 3)),
      labels: input(
        [11],
        random.integers(11, 37).map((label, r) => (r === 4 ? -100 : label)),
      ),
      losses: output([11]),
    }),
    forward: (device, { logits, labels, losses }) => device.crossEntropy({ logits, labels, losses, gradLogits: logits, scale: 1 / 11 }),
  },
  ...[0, 1, 35].map(
    (count): OperationCase => ({
      name: `squaredError ${count}`,
      tolerance: rounding,
      operands: (random) => ({
        predictions: normal(random, [count]),
        targets: normal(random, [count]),
        losses: output([count]),
        inference: output([count]),
        gradPredictions: output([count]),
      }),
      forward(device, { predictions, targets, losses, inference, gradPredictions }) {
        device.squaredError({ predictions, targets, losses, gradPredictions, scale: 0.25 });
        device.squaredError({ predictions, targets, losses: inference });
      },
      gradient: { outputs: { losses: 0.25 }, inputs: { predictions: 'gradPredictions' } },
    }),
  ),
  {
    name: 'squaredError 35, gradient in place of the predictions',
    tolerance: rounding,
    operands: (random) => ({ predictions: updated(normal(random, [35])), targets: normal(random, [35]), losses: output([35]) }),
    forward: (device, { predictions, targets, losses }) =>
      device.squaredError({ predictions, targets, losses, gradPredictions: predictions }),
  },
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
