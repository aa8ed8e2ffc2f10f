import type { Implementation } from '../operations/operation.ts';
import type * as operations from '../operations/reductions.ts';

export const sum: Implementation<typeof operations.sum> = ({ input, output }, { count, accumulate }) => {
  let total = accumulate ? output[0] : 0;
  for (let i = 0; i < count; i++) total += input[i];
  output[0] = total;
};

export const sumOfSquares: Implementation<typeof operations.sumOfSquares> = ({ input, rowMask, output }, { rows, width }) => {
  let total = 0;
  for (let r = 0; r < rows; r++) {
    if (rowMask && rowMask[r] === 0) continue;
    for (let i = r * width; i < (r + 1) * width; i++) total += input[i] * input[i];
  }
  output[0] = total;
};

export const columnMean: Implementation<typeof operations.columnMean> = ({ input, output }, { rows, width }) => {
  for (let i = 0; i < width; i++) {
    let sum = 0;
    for (let r = 0; r < rows; r++) sum += input[r * width + i];
    output[i] = sum / Math.max(rows, 1);
  }
};
