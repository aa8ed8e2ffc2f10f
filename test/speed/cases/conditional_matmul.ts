import { input, normal, output } from '../../backend/cases/case.ts';
import type { Random } from '../../backend/random.ts';
import { tokens, width, zeros } from '../operands.ts';
import type { SpeedCase } from '../speed_cases.ts';

/** A leaf of 32 neurons of each of two trees of depth 6. */
const [choices, blocks, blockSize] = [2, 128, 32];
const choiceShapes = { input: [tokens, width], weight: [blocks * blockSize, width], products: [tokens, choices * blockSize] };
const conditional = { operations: 2 * tokens * choices * blockSize * width };
const chosenOf = (random: Random) => input([tokens, choices], random.integers(tokens * choices, blocks));
export const conditionalMatmul: SpeedCase[] = [
  {
    name: `conditionalMatmul ${tokens} x ${width}, ${choices} of ${blocks} blocks of ${blockSize}`,
    operands: (random) => ({
      input: normal(random, choiceShapes.input),
      weight: normal(random, choiceShapes.weight),
      chosen: chosenOf(random),
      output: output(choiceShapes.products),
    }),
    run: (device, { input, weight, chosen, output }) => device.conditionalMatmul({ input, weight, chosen, blockSize, output }),
    ...conditional,
  },
  {
    name: `conditionalMatmulBackwardInput ${tokens} x ${width}`,
    operands: (random) => ({
      gradOutput: normal(random, choiceShapes.products),
      weight: normal(random, choiceShapes.weight),
      chosen: chosenOf(random),
      gradInput: output(choiceShapes.input),
    }),
    run: (device, { gradOutput, weight, chosen, gradInput }) =>
      device.conditionalMatmulBackwardInput({ gradOutput, weight, chosen, blockSize, gradInput }),
    ...conditional,
  },
  {
    name: `conditionalMatmulBackwardWeight ${tokens} x ${width}`,
    operands: (random) => ({
      input: normal(random, choiceShapes.input),
      gradOutput: normal(random, choiceShapes.products, 1e-3),
      chosen: chosenOf(random),
      gradWeight: zeros(choiceShapes.weight),
    }),
    run: (device, { input, gradOutput, chosen, gradWeight }) =>
      device.conditionalMatmulBackwardWeight({ input, gradOutput, chosen, blockSize, gradWeight }),
    ...conditional,
  },
];
