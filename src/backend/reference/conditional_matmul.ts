import type * as operations from '../operations/conditional_matmul.ts';
import type { Implementation } from '../operations/operation.ts';
import { addScaled, dot, type Integers } from './arrays.ts';

/** The weight's row that output o of input row r meets. Throws where a chosen block is none. */
function rowOf(operation: string, chosen: Integers, r: number, o: number, choices: number, blockSize: number, blocks: number): number {
  const block = chosen[r * choices + Math.floor(o / blockSize)];
  if (block < 0 || block >= blocks) throw new RangeError(`${operation}: block ${block}, chosen by row ${r}, is not one of ${blocks}`);
  return block * blockSize + (o % blockSize);
}

/** output[r][o] (+)= input[r] . weight[row of o] + bias[row of o]. */
export const conditionalMatmul: Implementation<typeof operations.conditionalMatmul> = (
  { input, weight, chosen, bias, output },
  { rows, inputs, choices, blockSize, blocks, accumulate },
) => {
  const outputs = choices * blockSize;
  for (let r = 0; r < rows; r++) {
    for (let o = 0; o < outputs; o++) {
      const row = rowOf('conditionalMatmul', chosen, r, o, choices, blockSize, blocks);
      const z = dot(input, r * inputs, weight, row * inputs, inputs) + (bias ? bias[row] : 0);
      output[r * outputs + o] = accumulate ? output[r * outputs + o] + z : z;
    }
  }
};

/** gradInput[r] (+)= sum over o of gradOutput[r][o] weight[row of o]. */
export const conditionalMatmulBackwardInput: Implementation<typeof operations.conditionalMatmulBackwardInput> = (
  { gradOutput, weight, chosen, gradInput },
  { rows, inputs, choices, blockSize, blocks, accumulate },
) => {
  const outputs = choices * blockSize;
  const sums = new Float64Array(inputs);
  for (let r = 0; r < rows; r++) {
    sums.fill(0);
    for (let o = 0; o < outputs; o++) {
      const row = rowOf('conditionalMatmulBackwardInput', chosen, r, o, choices, blockSize, blocks);
      addScaled(sums, gradOutput[r * outputs + o], weight, row * inputs, inputs);
    }
    for (let i = 0; i < inputs; i++) gradInput[r * inputs + i] = accumulate ? gradInput[r * inputs + i] + sums[i] : sums[i];
  }
};

/** gradWeight[row of o] += gradOutput[r][o] input[r], gradBias[row of o] += gradOutput[r][o], summed over all r and o first. */
export const conditionalMatmulBackwardWeight: Implementation<typeof operations.conditionalMatmulBackwardWeight> = (
  { input, gradOutput, chosen, gradWeight, gradBias, rowMask },
  { rows, inputs, choices, blockSize, blocks },
) => {
  const outputs = choices * blockSize;
  const sums = new Map<number, { weight: Float64Array; bias: number }>();
  for (let r = 0; r < rows; r++) {
    for (let o = 0; o < outputs; o++) {
      const row = rowOf('conditionalMatmulBackwardWeight', chosen, r, o, choices, blockSize, blocks);
      const sum = sums.get(row) ?? { weight: new Float64Array(inputs), bias: 0 };
      addScaled(sum.weight, gradOutput[r * outputs + o], input, r * inputs, inputs);
      sum.bias += gradOutput[r * outputs + o];
      sums.set(row, sum);
    }
  }
  for (const [row, sum] of sums) {
    for (let i = 0; i < inputs; i++) gradWeight[row * inputs + i] += sum.weight[i];
    if (gradBias) gradBias[row] += sum.bias;
    if (rowMask) rowMask[row] = 1;
  }
};
