import type { Floats, Integers } from './arrays.ts';

/** losses[r] = logSumExp(logits[r]) - logits[r][label], in nats. Shapes as in Backend.crossEntropy. */
export function crossEntropy(
  logits: Floats,
  labels: Integers,
  losses: Floats,
  gradLogits: Floats | undefined,
  rows: number,
  classes: number,
  scale: number,
  ignoreIndex: number,
): void {
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
}

/** losses = (predictions - targets)^2. */
export function squaredError(
  predictions: Floats,
  targets: Floats,
  losses: Floats,
  gradPredictions: Floats | undefined,
  count: number,
  scale: number,
): void {
  for (let i = 0; i < count; i++) {
    const error = predictions[i] - targets[i];
    losses[i] = error * error;
    if (gradPredictions) gradPredictions[i] = 2 * scale * error;
  }
}

export function sum(input: Floats, output: Floats, count: number, accumulate: number): void {
  let total = accumulate ? output[0] : 0;
  for (let i = 0; i < count; i++) total += input[i];
  output[0] = total;
}

export function sumOfSquares(input: Floats, touched: Integers | undefined, output: Floats, rows: number, width: number): void {
  let total = 0;
  for (let r = 0; r < rows; r++) {
    if (touched && touched[r] === 0) continue;
    for (let i = r * width; i < (r + 1) * width; i++) total += input[i] * input[i];
  }
  output[0] = total;
}
