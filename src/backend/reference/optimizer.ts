import type { Implementation } from '../operations/operation.ts';
import type * as operations from '../operations/optimizer.ts';

/** output = [min(1, maximum / (norm + 1e-6)), norm], with norm the square root of the sum of sums. */
export const clipScale: Implementation<typeof operations.clipScale> = ({ sums, output }, { count, maximum }) => {
  let total = 0;
  for (let i = 0; i < count; i++) total += sums[i];
  const norm = Math.sqrt(total);
  output[0] = Math.min(1, maximum / (norm + 1e-6));
  output[1] = norm;
};

/** One step of AdamW (arXiv 1711.05101, algorithm 2, with PyTorch's place of epsilon). Shapes as in the operation adamw. */
export const adamw: Implementation<typeof operations.adamw> = (
  { parameter, gradient, mean, variance, rowMask, gradientScale },
  { rows, width, learningRate, beta1, beta2, epsilon, weightDecay, step },
) => {
  const scale = gradientScale ? gradientScale[0] : 1;
  const meanCorrection = 1 - beta1 ** step;
  const varianceCorrection = Math.sqrt(1 - beta2 ** step);
  for (let r = 0; r < rows; r++) {
    const hasGradient = rowMask?.[r] !== 0;
    for (let i = r * width; i < (r + 1) * width; i++) {
      const g = hasGradient ? scale * gradient[i] : 0;
      const m = beta1 * mean[i] + (1 - beta1) * g;
      const v = beta2 * variance[i] + (1 - beta2) * g * g;
      const update = m / meanCorrection / (Math.sqrt(v) / varianceCorrection + epsilon);
      parameter[i] = parameter[i] * (1 - learningRate * weightDecay) - learningRate * update;
      mean[i] = m;
      variance[i] = v;
    }
  }
};

export const clearRows: Implementation<typeof operations.clearRows> = ({ gradient, rowMask }, { rows, width }) => {
  for (let r = 0; r < rows; r++) {
    if (rowMask[r] !== 0) gradient.fill(0, r * width, (r + 1) * width);
  }
};

export const addRows: Implementation<typeof operations.addRows> = ({ input, inputMask, output, rowMask }, { rows, width }) => {
  for (let r = 0; r < rows; r++) {
    if (inputMask[r] === 0) continue;
    rowMask[r] = 1;
    for (let i = r * width; i < (r + 1) * width; i++) output[i] += input[i];
  }
};
