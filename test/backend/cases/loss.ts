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
];
