import type * as operations from '../operations/loss.ts';
import type { Implementation } from '../operations/operation.ts';

/** losses[r] = logSumExp(logits[r]) - logits[r][label], in nats. Shapes as in the operation crossEntropy. */
export const crossEntropy: Implementation<typeof operations.crossEntropy> = (
  { logits, labels, losses, gradLogits },
  { rows, classes, scale, ignoreIndex },
) => {
  for (let r = 0; r < rows; r++) {
    const start = r * classes;
    const label = labels[r];
    if (label === ignoreIndex) {
      losses[r] = 0;
      gradLogits?.fill(0, start, start + classes);
      continue;
    }
    if (label < 0 || label >= classes) throw new RangeError(`crossEntropy: label ${label} of row ${r} is not one of ${classes} classes`);
    let maximum = Number.NEGATIVE_INFINITY;
    for (let c = 0; c < classes; c++) maximum = Math.max(maximum, logits[start + c]);
    let total = 0;
    for (let c = 0; c < classes; c++) total += Math.exp(logits[start + c] - maximum);
    losses[r] = maximum + Math.log(total) - logits[start + label];
    if (!gradLogits) continue;
    for (let c = 0; c < classes; c++) {
      const probability = Math.exp(logits[start + c] - maximum) / total;
      gradLogits[start + c] = scale * (probability - (c === label ? 1 : 0));
    }
  }
};

/** losses = (predictions - targets)^2. */
export const squaredError: Implementation<typeof operations.squaredError> = (
  { predictions, targets, losses, gradPredictions },
  { count, scale },
) => {
  for (let i = 0; i < count; i++) {
    const error = predictions[i] - targets[i];
    losses[i] = error * error;
    if (gradPredictions) gradPredictions[i] = 2 * scale * error;
  }
};
