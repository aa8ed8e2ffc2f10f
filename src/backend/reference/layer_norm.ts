import type * as operations from '../operations/layer_norm.ts';
import type { Implementation } from '../operations/operation.ts';

/** Layer normalisation (arXiv 1607.06450). Shapes as in Backend.layerNorm. */
export const layerNorm: Implementation<typeof operations.layerNorm> = (
  { input, gamma, beta, output, mean, reciprocal },
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
    if (reciprocal) reciprocal[r] = rowReciprocal;
  }
};

/**
 * With normalised = (input - mean) reciprocal and g = gamma gradOutput:
 * gradInput (+)= reciprocal (g - mean of g - normalised mean of (g normalised)).
 */
export const layerNormBackward: Implementation<typeof operations.layerNormBackward> = (
  { input, gamma, mean, reciprocal, gradOutput, gradInput, gradGamma, gradBeta },
  { rows, width, accumulate },
) => {
  const gammaSums = new Float64Array(width);
  const betaSums = new Float64Array(width);
  for (let r = 0; r < rows; r++) {
    const start = r * width;
    let sum = 0;
    let sumWithNormalised = 0;
    for (let i = 0; i < width; i++) {
      const normalised = (input[start + i] - mean[r]) * reciprocal[r];
      const g = gamma[i] * gradOutput[start + i];
      sum += g;
      sumWithNormalised += g * normalised;
      gammaSums[i] += gradOutput[start + i] * normalised;
      betaSums[i] += gradOutput[start + i];
    }
    for (let i = 0; i < width; i++) {
      const normalised = (input[start + i] - mean[r]) * reciprocal[r];
      const g = gamma[i] * gradOutput[start + i];
      const gradient = reciprocal[r] * (g - sum / width - (normalised * sumWithNormalised) / width);
      gradInput[start + i] = accumulate ? gradInput[start + i] + gradient : gradient;
    }
  }
  for (let i = 0; i < width; i++) {
    if (gradGamma) gradGamma[i] += gammaSums[i];
    if (gradBeta) gradBeta[i] += betaSums[i];
  }
};
