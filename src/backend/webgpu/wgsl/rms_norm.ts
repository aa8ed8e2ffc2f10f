import type { Kernel, Stage } from '../kernel.ts';
import { least } from './layer_norm.ts';

/** A workgroup a row. */
const rootMeanSquare: Stage = {
  name: 'rows',
  groups: ({ rows }) => rows,
  uses: ['workgroup_sum', 'is_finite'],
  code: () => `
    var<workgroup> overflowed: u32;
    fn mean_square(start: u32, factor: f32, lane: u32) -> f32 {
      var squares = 0.0;
      for (var i = lane; i < p.width; i += 64u) { let x = factor * get_input(start + i); squares += x * x; }
      return workgroup_sum(squares, lane) / f32(p.width);
    }
    fn run(row: u32, lane: u32) {
      let start = row * p.width;
      var factor = 1.0;
      var square = mean_square(start, factor, lane);
      if (lane == 0u) { overflowed = u32(!is_finite(square)); }
      if (workgroupUniformLoad(&overflowed) != 0u) {
        factor = ${least};
        square = mean_square(start, factor, lane);
      }
      let reciprocal = 1.0 / sqrt(square + p.epsilon * factor * factor);
      for (var i = lane; i < p.width; i += 64u) { set_output(start + i, get_gamma(i) * (factor * get_input(start + i)) * reciprocal); }
      if (lane == 0u) { set_rstd(row, reciprocal * factor); }
    }`,
};

export const rmsNorm: Kernel = { types: { epsilon: 'f32' }, stages: () => [rootMeanSquare] };

/** A workgroup a column, before gradInput may take gradOutput's place. */
const backwardGamma: Stage = {
  name: 'columns',
  onlyWith: ['gradGamma'],
  operands: ['input', 'rstd', 'gradOutput', 'gradGamma'],
  groups: ({ width }) => width,
  uses: ['workgroup_sum'],
  code: () => `
    fn run(column: u32, lane: u32) {
      var sum = 0.0;
      for (var row = lane; row < p.rows; row += 64u) {
        let at = row * p.width + column;
        sum += get_gradOutput(at) * (get_input(at) * get_rstd(row));
      }
      sum = workgroup_sum(sum, lane);
      if (lane == 0u) { set_gradGamma(column, get_gradGamma(column) + sum); }
    }`,
};

const backwardInput: Stage = {
  name: 'rows',
  operands: ['input', 'gamma', 'rstd', 'gradOutput', 'gradInput'],
  groups: ({ rows }) => rows,
  uses: ['workgroup_sum'],
  code: () => `
    fn run(row: u32, lane: u32) {
      let start = row * p.width;
      let rstd = get_rstd(row);
      var sum = 0.0;
      for (var i = lane; i < p.width; i += 64u) { sum += get_gamma(i) * get_gradOutput(start + i) * (get_input(start + i) * rstd); }
      let mean = workgroup_sum(sum, lane) / f32(p.width);
      for (var i = lane; i < p.width; i += 64u) {
        var gradient = rstd * (get_gamma(i) * get_gradOutput(start + i) - get_input(start + i) * rstd * mean);
        if (p.accumulate != 0u) { gradient += get_gradInput(start + i); }
        set_gradInput(start + i, gradient);
      }
    }`,
};

export const rmsNormBackward: Kernel = { stages: () => [backwardGamma, backwardInput] };
