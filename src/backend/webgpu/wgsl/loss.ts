import { ceilDivide, checkStage, elementKernel, type Kernel, type Numbers, type Stage } from '../kernel.ts';

const checkLabels = checkStage(
  `fn bad(i: u32) -> bool { let label = get_labels(i); return label != p.ignoreIndex && u32(label) >= p.classes; }
   fn culprit(i: u32) -> i32 { return get_labels(i); }`,
  ['labels'],
);

/** A workgroup a row. */
const rows: Stage = {
  name: 'rows',
  threads: 256,
  groups: ({ rows }) => rows,
  uses: ['workgroup_sum', 'workgroup_max', 'exponential', 'logarithm'],
  code: () => `
    fn run(row: u32, lane: u32) {
      let start = row * p.classes;
      let label = get_labels(row);
      let ignored = label == p.ignoreIndex;
      var maximum = -3.4028234e38;
      for (var c = lane; c < p.classes; c += 256u) { maximum = max(maximum, get_logits(start + c)); }
      maximum = workgroup_max(maximum, lane);
      var total = 0.0;
      for (var c = lane; c < p.classes; c += 256u) { total += exponential(get_logits(start + c) - maximum); }
      total = workgroup_sum(total, lane);
      if (lane == 0u) {
        var loss = 0.0;
        if (!ignored) { loss = maximum + logarithm(total) - get_logits(start + u32(label)); }
        set_losses(row, loss);
      }
      storageBarrier(); // gradients may take the logits' place
      if (!has_gradLogits) { return; }
      for (var c = lane; c < p.classes; c += 256u) {
        var gradient = 0.0;
        if (!ignored) { gradient = p.scale * (exponential(get_logits(start + c) - maximum) / total - select(0.0, 1.0, c == u32(label))); }
        set_gradLogits(start + c, gradient);
      }
    }`,
};

export const crossEntropy: Kernel = {
  types: { scale: 'f32', ignoreIndex: 'i32' },
  derive: ({ rows }) => ({ checks: rows }),
  error: ({ classes }, position, value) => `crossEntropy: label ${value} of row ${position} is not one of ${classes} classes`,
  stages: () => [checkLabels, rows],
};

export const squaredError: Kernel = elementKernel(
  ({ count }) => count,
  `fn element(i: u32) {
    let error = get_predictions(i) - get_targets(i);
    set_losses(i, error * error);
    set_gradPredictions(i, 2.0 * p.scale * error);
  }`,
  { types: { scale: 'f32' } },
);

/** Elements that a workgroup adds up. */
const part = 256 * 64;

/** Sums of parts, then the sum of these. `term` is WGSL of an element, `i`. */
const summed = (count: (numbers: Numbers) => number, operand: string, term: string, finish: string): Kernel => ({
  derive: (numbers) => ({ elements: count(numbers), parts: ceilDivide(count(numbers), part) }),
  scratch: (numbers) => Math.max(4, 4 * ceilDivide(count(numbers), part)),
  stages: () => [
    {
      name: 'parts',
      operands: [operand, 'rowMask'],
      threads: 256,
      groups: (numbers) => ceilDivide(count(numbers), part),
      uses: ['workgroup_sum'],
      code: () => `
        fn run(group: u32, lane: u32) {
          let end = min((group + 1u) * ${part}u, p.elements);
          var sum = 0.0;
          for (var i = group * ${part}u + lane; i < end; i += 256u) { ${term} }
          sum = workgroup_sum(sum, lane);
          if (lane == 0u) { set_scratch(group, bitcast<u32>(sum)); }
        }`,
    },
    {
      name: 'sum',
      operands: ['output'],
      threads: 256,
      groups: () => 1,
      uses: ['workgroup_sum'],
      code: () => `
        fn run(group: u32, lane: u32) {
          var sum = 0.0;
          for (var i = lane; i < p.parts; i += 256u) { sum += bitcast<f32>(get_scratch(i)); }
          sum = workgroup_sum(sum, lane);
          if (lane == 0u) { ${finish} }
        }`,
    },
  ],
});

export const sum = summed(
  ({ count }) => count,
  'input',
  'sum += get_input(i);',
  'if (p.accumulate != 0u) { sum += get_output(0u); } set_output(0u, sum);',
);

export const sumOfSquares = summed(
  ({ rows, width }) => rows * width,
  'input',
  'if (!has_rowMask || get_rowMask(i / p.width) != 0) { let x = get_input(i); sum += x * x; }',
  'set_output(0u, sum);',
);

export const columnMean: Kernel = {
  ...elementKernel(
    ({ width }) => width,
    `fn element(i: u32) {
      var sum = 0.0;
      for (var row = 0u; row < p.rows; row++) { sum += get_input(row * p.width + i); }
      set_output(i, sum / f32(max(p.rows, 1u)));
    }`,
  ),
};
