import type * as operations from '../operations/layer_norm.ts';
import type { Implementation } from '../operations/operation.ts';

/** Layer normalization (arXiv 1607.06450). Shapes as in the operation layerNorm. */
export const layerNorm: Implementation<typeof operations.layerNorm> = (
  { input, gamma, beta, output, mean, rstd },
  { rows, width, epsilon },
) => {
  for (let r = 0; r < rows; r++) {
    const start = r * width;
    let sum = 0;
    for (let i = 0; i < width; i++) sum += input[start + i];
    const rowMean = sum / width;
    let squares = 0;
    for (let i = 0; i < width; i++) squares += (input[start + i] - rowMean) ** 2;
    const rowReciprocal = 1 / Math.sqrt(squares / width + epsilon);
    for (let i = 0; i < width; i++) output[start + i] = gamma[i] * (input[start + i] - rowMean) * rowReciprocal + beta[i];
    if (mean) mean[r] = rowMean;
    if (rstd) rstd[r] = rowReciprocal;
  }
};

/**
 * With normalized = (input - mean) rstd and g = gamma gradOutput:
 * gradInput (+)= rstd (g - mean of g - normalized mean of (g normalized)).
 */
export const layerNormBackward: Implementation<typeof operations.layerNormBackward> = (
  { input, gamma, mean, rstd, gradOutput, gradInput, gradGamma, gradBeta },
  { rows, width, accumulate },
) => {
  const gammaSums = new Float64Array(width);
  const betaSums = new Float64Array(width);
  for (let r = 0; r < rows; r++) {
    const start = r * width;
    let sum = 0;
    let sumWithNormalized = 0;
    for (let i = 0; i < width; i++) {
      const normalized = (input[start + i] - mean[r]) * rstd[r];
      const g = gamma[i] * gradOutput[start + i];
      sum += g;
      sumWithNormalized += g * normalized;
      gammaSums[i] += gradOutput[start + i] * normalized;
      betaSums[i] += gradOutput[start + i];
    }
    for (let i = 0; i < width; i++) {
      const normalized = (input[start + i] - mean[r]) * rstd[r];
      const g = gamma[i] * gradOutput[start + i];
      const gradient = rstd[r] * (g - sum / width - (normalized * sumWithNormalized) / width);
      gradInput[start + i] = accumulate ? gradInput[start + i] + gradient : gradient;
    }
  }
  for (let i = 0; i < width; i++) {
    if (gradGamma) gradGamma[i] += gammaSums[i];
    if (gradBeta) gradBeta[i] += betaSums[i];
  }
};
