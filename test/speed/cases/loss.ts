import { input, normal, output } from '../../backend/cases/case.ts';
import { alike, elements, tokens, vocabulary, width, zeros } from '../operands.ts';
import type { SpeedCase } from '../speed_cases.ts';

export const losses: SpeedCase[] = [
  {
    name: 'crossEntropy',
    operands: (random) => ({
      logits: normal(random, [32, vocabulary], 2),
      labels: input([32], random.integers(32, vocabulary)),
      losses: output([32]),
      gradLogits: output([32, vocabulary]),
    }),
    run: (device, { logits, labels, losses, gradLogits }) => device.crossEntropy({ logits, labels, losses, gradLogits }),
    bytes: 8 * 32 * vocabulary,
  },
  {
    name: 'squaredError',
    operands: alike([elements], 'predictions', 'targets', 'losses', 'gradPredictions'),
    run: (device, { predictions, targets, losses, gradPredictions }) =>
      device.squaredError({ predictions, targets, losses, gradPredictions }),
    bytes: 16 * elements,
  },
  {
    name: 'columnMean',
    operands: (random) => ({ input: normal(random, [tokens, width]), output: output([width]) }),
    run: (device, { input, output }) => device.columnMean({ input, output }),
    bytes: 4 * tokens * width,
  },
  {
    name: 'addRow',
    operands: (random) => ({ row: normal(random, [width]), output: zeros([tokens, width]) }),
    run: (device, { row, output }) => device.addRow({ row, output }),
    bytes: 8 * tokens * width,
  },
  {
    name: 'sum',
    operands: (random) => ({ input: normal(random, [elements]), output: output([1]) }),
    run: (device, { input, output }) => device.sum({ input, output }),
    bytes: 4 * elements,
  },
  {
    name: 'sumOfSquares',
    operands: (random) => ({ input: normal(random, [elements]), output: output([1]) }),
    run: (device, { input, output }) => device.sumOfSquares({ input, output }),
    bytes: 4 * elements,
  },
];
