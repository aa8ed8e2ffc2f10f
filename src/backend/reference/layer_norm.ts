import type { Floats } from './arrays.ts';

/** Layer normalisation (arXiv 1607.06450). Shapes as in Backend.layerNorm. */
export function layerNorm(
  input: Floats,
  gamma: Floats,
  beta: Floats,
  output: Floats,
  mean: Floats | undefined,
  reciprocal: Floats | undefined,
  rows: number,
  width: number,
  epsilon: number,
): void {
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
}

/**
 * With normalised = (input - mean) reciprocal and g = gamma gradOutput:
 * gradInput (+)= reciprocal (g - mean of g - normalised mean of (g normalised)).
 */
export function layerNormBackward(
  input: Floats,
  gamma: Floats,
  mean: Floats,
  reciprocal: Floats,
  gradOutput: Floats,
  gradInput: Floats,
  gradGamma: Floats | undefined,
  gradBeta: Floats | undefined,
  rows: number,
  width: number,
  accumulate: number,
): void {
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
}
