import type { Kernel, Stage } from '../kernel.ts';

/** What the values are multiplied by where sums of them or of their squares leave the range of float32: 2^-80. Those values are so large that none is lost. */
export const least = '8.271806125530277e-25';

/** A workgroup a row. */
const forward: Stage = {
  name: 'rows',
  groups: ({ rows }) => rows,
  uses: ['workgroup_sum', 'is_finite'],
  code: () => `
    var<workgroup> overflowed: u32;
    /** The mean and the sum of squares of the row's values, all times \`factor\`. */
    fn moments(start: u32, factor: f32, lane: u32) -> vec2f {
      var sum = 0.0;
      for (var i = lane; i < p.width; i += 64u) { sum += factor * get_input(start + i); }
      let mean = workgroup_sum(sum, lane) / f32(p.width);
      var squares = 0.0;
      for (var i = lane; i < p.width; i += 64u) { let x = factor * get_input(start + i) - mean; squares += x * x; }
      return vec2f(mean, workgroup_sum(squares, lane));
    }
    fn run(row: u32, lane: u32) {
      let start = row * p.width;
      var factor = 1.0;
      var found = moments(start, factor, lane);
      if (lane == 0u) { overflowed = u32(!is_finite(found.y)); }
      if (workgroupUniformLoad(&overflowed) != 0u) {
        factor = ${least};
        found = moments(start, factor, lane);
      }
      let mean = found.x;
      let rstd = 1.0 / sqrt(found.y / f32(p.width) + p.epsilon * factor * factor);
      for (var i = lane; i < p.width; i += 64u) {
        set_output(start + i, get_gamma(i) * (factor * get_input(start + i) - mean) * rstd + get_beta(i));
      }
      if (lane == 0u) { set_mean(row, mean / factor); set_rstd(row, rstd * factor); }
    }`,
};

export const layerNorm: Kernel = { types: { epsilon: 'f32' }, stages: () => [forward] };

const backwardInput: Stage = {
  name: 'rows',
  operands: ['input', 'gamma', 'mean', 'rstd', 'gradOutput', 'gradInput'],
  groups: ({ rows }) => rows,
  uses: ['workgroup_sum'],
  code: () => `
    fn run(row: u32, lane: u32) {
      let start = row * p.width;
      let width = f32(p.width);
      let mean = get_mean(row);
      let rstd = get_rstd(row);
      var sum = 0.0;
      var with_normalized = 0.0;
      for (var i = lane; i < p.width; i += 64u) {
        let g = get_gamma(i) * get_gradOutput(start + i);
        sum += g;
        with_normalized += g * ((get_input(start + i) - mean) * rstd);
      }
      let g_mean = workgroup_sum(sum, lane) / width;
      let normalized_mean = workgroup_sum(with_normalized, lane) / width;
      for (var i = lane; i < p.width; i += 64u) {
        let normalized = (get_input(start + i) - mean) * rstd;
        let g = get_gamma(i) * get_gradOutput(start + i);
        var gradient = rstd * (g - g_mean - normalized * normalized_mean);
        if (p.accumulate != 0u) { gradient += get_gradInput(start + i); }
        set_gradInput(start + i, gradient);
      }
    }`,
};

/** A workgroup a column, before gradInput may take gradOutput's place. */
const backwardParameters: Stage = {
  name: 'columns',
  onlyWith: ['gradGamma', 'gradBeta'],
  operands: ['input', 'mean', 'rstd', 'gradOutput', 'gradGamma', 'gradBeta'],
  groups: ({ width }) => width,
  uses: ['workgroup_sum'],
  code: () => `
    fn run(column: u32, lane: u32) {
      var gamma = 0.0;
      var beta = 0.0;
      for (var row = lane; row < p.rows; row += 64u) {
        let at = row * p.width + column;
        gamma += get_gradOutput(at) * ((get_input(at) - get_mean(row)) * get_rstd(row));
        beta += get_gradOutput(at);
      }
      gamma = workgroup_sum(gamma, lane);
      beta = workgroup_sum(beta, lane);
      if (lane == 0u) {
        set_gradGamma(column, get_gradGamma(column) + gamma);
        set_gradBeta(column, get_gradBeta(column) + beta);
      }
    }`,
};

export const layerNormBackward: Kernel = { stages: () => [backwardParameters, backwardInput] };
