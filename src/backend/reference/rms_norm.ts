import type { Implementation } from '../operations/operation.ts';
import type * as operations from '../operations/rms_norm.ts';

/** Root mean square normalization (arXiv 1910.07467). Shapes as in the operation rmsNorm. */
export const rmsNorm: Implementation<typeof operations.rmsNorm> = ({ input, gamma, output }, { rows, width, epsilon }) => {
  for (let r = 0; r < rows; r++) {
    const start = r * width;
    let squares = 0;
    for (let i = 0; i < width; i++) squares += input[start + i] ** 2;
    const factor = 1 / Math.sqrt(squares / width + epsilon);
    for (let i = 0; i < width; i++) output[start + i] = gamma[i] * input[start + i] * factor;
  }
};
