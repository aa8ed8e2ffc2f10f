import type { Implementation } from '../operations/operation.ts';
import type * as operations from '../operations/rms_norm.ts';

/** Root mean square normalization (arXiv 1910.07467). Shapes as in the operation rmsNorm. */
export const rmsNorm: Implementation<typeof operations.rmsNorm> = ({ input, gamma, output, rstd }, { rows, width, epsilon }) => {
  for (let r = 0; r < rows; r++) {
    const start = r * width;
    let squares = 0;
    for (let i = 0; i < width; i++) squares += input[start + i] ** 2;
    const factor = 1 / Math.sqrt(squares / width + epsilon);
    for (let i = 0; i < width; i++) output[start + i] = gamma[i] * input[start + i] * factor;
    if (rstd) rstd[r] = factor;
  }
};

/** With normalized = input rstd and g = gamma gradOutput: gradInput (+)= rstd (g - normalized mean of (g normalized)). */
export const rmsNormBackward: Implementation<typeof operations.rmsNormBackward> = (
  { input, gamma, rstd, gradOutput, gradInput, gradGamma },
  { rows, width, accumulate },
) => {
  const gammaSums = new Float64Array(width);
  for (let r = 0; r < rows; r++) {
    const start = r * width;
    let sumWithNormalized = 0;
    for (let i = 0; i < width; i++) {
      const normalized = input[start + i] * rstd[r];
      sumWithNormalized += gamma[i] * gradOutput[start + i] * normalized;
      gammaSums[i] += gradOutput[start + i] * normalized;
    }
    for (let i = 0; i < width; i++) {
      const gradient = rstd[r] * (gamma[i] * gradOutput[start + i] - (input[start + i] * rstd[r] * sumWithNormalized) / width);
      gradInput[start + i] = accumulate ? gradInput[start + i] + gradient : gradient;
    }
  }
  for (let i = 0; gradGamma && i < width; i++) gradGamma[i] += gammaSums[i];
};
