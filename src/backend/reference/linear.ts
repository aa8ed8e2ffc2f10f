import type * as operations from '../operations/linear.ts';
import type { Implementation } from '../operations/operation.ts';
import type { Floats } from './arrays.ts';
import { geluValue } from './gelu.ts';
import { roundedTo } from './rounding.ts';

/**
 * output[r][o] = activation(input[r] . weight[o] + bias[o]). Four outputs at a time: their weights stay in the first-level cache
 * while all rows pass by. Past the last output a tile repeats it and stores nothing.
 */
export const linear: Implementation<typeof operations.linear> = (
  { bias, output, preActivation, ...given },
  { rows, inputs, outputs, gelu, accumulate, precision },
) => {
  const [input, weight] = roundedTo(precision, given.input, given.weight);
  const sums = new Float64Array(4);
  for (let o = 0; o < outputs; o += 4) {
    const tile = Math.min(4, outputs - o);
    const w0 = o * inputs;
    const w1 = Math.min(o + 1, outputs - 1) * inputs;
    const w2 = Math.min(o + 2, outputs - 1) * inputs;
    const w3 = Math.min(o + 3, outputs - 1) * inputs;
    for (let r = 0; r < rows; r++) {
      const start = r * inputs;
      let s0 = 0;
      let s1 = 0;
      let s2 = 0;
      let s3 = 0;
      for (let i = 0; i < inputs; i++) {
        const x = input[start + i];
        s0 += x * weight[w0 + i];
        s1 += x * weight[w1 + i];
        s2 += x * weight[w2 + i];
        s3 += x * weight[w3 + i];
      }
      sums[0] = s0;
      sums[1] = s1;
      sums[2] = s2;
      sums[3] = s3;
      for (let k = 0; k < tile; k++) {
        const at = r * outputs + o + k;
        const z = bias ? sums[k] + bias[o + k] : sums[k];
        if (preActivation) preActivation[at] = z;
        if (gelu) output[at] = geluValue(z);
        else if (accumulate) output[at] += z;
        else output[at] = z;
      }
    }
  }
};

/** gradInput[r] (+)= sum over o of gradOutput[r][o] weight[o]. */
export const linearBackwardInput: Implementation<typeof operations.linearBackwardInput> = (
  { gradOutput, weight, gradInput },
  { rows, inputs, outputs, accumulate, precision },
) => {
  const [gradients, weights] = roundedTo(precision, gradOutput, weight);
  const sums = new Float64Array(inputs);
  for (let r = 0; r < rows; r++) {
    sums.fill(0);
    combineRows(sums, gradients, r * outputs, 1, weights, outputs);
    const start = r * inputs;
    for (let i = 0; i < inputs; i++) gradInput[start + i] = accumulate ? gradInput[start + i] + sums[i] : sums[i];
  }
};

/** gradWeight[o] += sum over r of gradOutput[r][o] input[r]; gradBias[o] += sum over r of gradOutput[r][o]. */
export const linearBackwardWeight: Implementation<typeof operations.linearBackwardWeight> = (
  { input, gradOutput, gradWeight, gradBias },
  { rows, inputs, outputs, precision },
) => {
  const [gradients, values] = roundedTo(precision, gradOutput, input);
  const sums = new Float64Array(inputs);
  for (let o = 0; o < outputs; o++) {
    sums.fill(0);
    combineRows(sums, gradients, o, outputs, values, rows);
    const start = o * inputs;
    for (let i = 0; i < inputs; i++) gradWeight[start + i] += sums[i];
    if (gradBias) {
      let sum = 0;
      for (let r = 0; r < rows; r++) sum += gradOutput[r * outputs + o];
      gradBias[o] += sum;
    }
  }
};

/** sums += sum over k < count of coefficients[start + k stride] matrix[k], a row of as many elements as `sums`; four rows a pass. */
function combineRows(sums: Float64Array, coefficients: Floats, start: number, stride: number, matrix: Floats, count: number): void {
  const width = sums.length;
  let k = 0;
  for (; k + 4 <= count; k += 4) {
    const c0 = coefficients[start + k * stride];
    const c1 = coefficients[start + (k + 1) * stride];
    const c2 = coefficients[start + (k + 2) * stride];
    const c3 = coefficients[start + (k + 3) * stride];
    const row0 = k * width;
    const row1 = row0 + width;
    const row2 = row1 + width;
    const row3 = row2 + width;
    for (let i = 0; i < width; i++) {
      sums[i] += c0 * matrix[row0 + i] + c1 * matrix[row1 + i] + c2 * matrix[row2 + i] + c3 * matrix[row3 + i];
    }
  }
  for (; k < count; k++) {
    const c = coefficients[start + k * stride];
    const row = k * width;
    for (let i = 0; i < width; i++) sums[i] += c * matrix[row + i];
  }
}
