import { input, normal, type OperationCase, output, sums, updated } from './case.ts';

interface Variant {
  rows: number;
  inputs: number;
  choices: number;
  blocks: number;
  blockSize: number;
  bias?: boolean;
  accumulate?: boolean;
}

/** Single rows and blocks on both sides of where products take over from dots; blocks chosen by nobody, by one row, by many; twice by one. */
const variants: Variant[] = [
  { rows: 0, inputs: 8, choices: 2, blocks: 3, blockSize: 2 },
  { rows: 1, inputs: 1, choices: 1, blocks: 1, blockSize: 1 },
  { rows: 7, inputs: 33, choices: 3, blocks: 5, blockSize: 1, bias: true },
  { rows: 5, inputs: 17, choices: 2, blocks: 40, blockSize: 3 },
  { rows: 6, inputs: 12, choices: 2, blocks: 4, blockSize: 4, bias: true, accumulate: true },
  { rows: 9, inputs: 20, choices: 4, blocks: 2, blockSize: 5 },
  { rows: 200, inputs: 70, choices: 2, blocks: 3, blockSize: 31, bias: true },
  { rows: 90, inputs: 300, choices: 1, blocks: 16, blockSize: 96 },
];

export const conditionalMatmulCases: OperationCase[] = variants.map(
  ({ rows, inputs, choices, blocks, blockSize, bias, accumulate = false }) => {
    const outputs = choices * blockSize;
    const total = blocks * blockSize;
    return {
      name: `conditionalMatmul ${rows} x ${inputs}, ${choices} of ${blocks} blocks of ${blockSize}${bias ? ' with bias' : ''}${accumulate ? ', accumulates' : ''}`,
      tolerance: sums,
      operands: (random) => {
        const added = (shape: number[]) => (accumulate ? updated(normal(random, shape)) : output(shape));
        return {
          input: normal(random, [rows, inputs]),
          weight: normal(random, [total, inputs]),
          chosen: input([rows, choices], random.integers(rows * choices, blocks)),
          ...(bias && { bias: normal(random, [total]), gradBias: updated(normal(random, [total])) }),
          output: added([rows, outputs]),
          gradOutput: normal(random, [rows, outputs]),
          gradInput: added([rows, inputs]),
          gradWeight: updated(normal(random, [total, inputs])),
          rowMask: updated(input([total], new Int32Array(total))),
        };
      },
      forward: (device, { input, weight, chosen, bias, output }) =>
        device.conditionalMatmul({ input, weight, chosen, blockSize, bias, output, accumulate }),
      backward(device, { input, weight, chosen, gradOutput, gradInput, gradWeight, gradBias, rowMask }) {
        device.conditionalMatmulBackwardInput({ gradOutput, weight, chosen, blockSize, gradInput, accumulate });
        device.conditionalMatmulBackwardWeight({ input, gradOutput, chosen, blockSize, gradWeight, gradBias, rowMask });
      },
      // Differentiating the large ones would only repeat the small ones.
      gradient:
        rows * inputs * outputs > 10000
          ? undefined
          : { outputs: { output: 'gradOutput' }, inputs: { input: 'gradInput', weight: 'gradWeight', ...(bias && { bias: 'gradBias' }) } },
    };
  },
);
