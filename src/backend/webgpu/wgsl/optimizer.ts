import { elementKernel, type Kernel } from '../kernel.ts';

export const clipScale: Kernel = {
  types: { maximum: 'f32' },
  stages: () => [
    {
      name: 'scale',
      threads: 1,
      groups: () => 1,
      code: () => `
        fn run(group: u32, lane: u32) {
          var total = 0.0;
          for (var i = 0u; i < p.count; i++) { total += get_sums(i); }
          let norm = sqrt(total);
          set_output(0u, min(1.0, p.maximum / (norm + 1e-6)));
          set_output(1u, norm);
        }`,
    },
  ],
};

const rowElements = ({ rows, width }: { readonly [name: string]: number }) => rows * width;

export const adamw: Kernel = elementKernel(
  rowElements,
  `fn element(i: u32) {
    var g = 0.0;
    if (!has_rowMask || get_rowMask(i / p.width) != 0) {
      g = get_gradient(i);
      if (has_gradientScale) { g *= get_gradientScale(0u); }
    }
    let m = p.beta1 * get_mean(i) + p.rest1 * g;
    let v = p.beta2 * get_variance(i) + p.rest2 * g * g;
    let update = m / p.mean_correction / (sqrt(v) / p.variance_correction + p.epsilon);
    set_parameter(i, get_parameter(i) * p.kept - p.learningRate * update);
    set_mean(i, m);
    set_variance(i, v);
  }`,
  {
    types: Object.fromEntries(
      ['learningRate', 'beta1', 'beta2', 'epsilon', 'weightDecay', 'rest1', 'rest2', 'mean_correction', 'variance_correction', 'kept'].map(
        (name) => [name, 'f32' as const],
      ),
    ),
    derive: ({ learningRate, beta1, beta2, weightDecay, step }) => ({
      rest1: 1 - beta1,
      rest2: 1 - beta2,
      mean_correction: 1 - beta1 ** step,
      variance_correction: Math.sqrt(1 - beta2 ** step),
      kept: 1 - learningRate * weightDecay,
    }),
  },
);

export const clearRows: Kernel = elementKernel(
  rowElements,
  'fn element(i: u32) { if (get_rowMask(i / p.width) != 0) { set_gradient(i, 0.0); } }',
);

export const addRows: Kernel = elementKernel(
  rowElements,
  `fn element(i: u32) {
    let row = i / p.width;
    if (get_inputMask(row) == 0) { return; }
    set_output(i, get_output(i) + get_input(i));
    if (i % p.width == 0) { set_rowMask(row, 1); }
  }`,
);
