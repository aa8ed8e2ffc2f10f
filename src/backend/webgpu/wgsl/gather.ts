import { checkStage, elementStage, type Kernel, type Numbers, type Stage } from '../kernel.ts';

const outside =
  (operation: string) =>
  ({ count }: Numbers, position: number, value: number) =>
    `${operation}: index ${value} of row ${position} is not in a table of ${count} rows`;

/** An index that is none of a table's. */
const check = checkStage(
  `fn bad(i: u32) -> bool { return u32(get_indices(i)) >= p.count; }
   fn culprit(i: u32) -> i32 { return get_indices(i); }`,
  ['indices'],
);
const checks = ({ rows }: Numbers) => ({ checks: rows });
const elements = ({ rows, width }: Numbers) => rows * width;

export const gather: Kernel = {
  derive: (numbers) => ({ ...checks(numbers), elements: elements(numbers) }),
  error: outside('gather'),
  stages: () => [
    check,
    elementStage(
      elements,
      `fn element(i: u32) {
        let row = u32(get_indices(i / p.width));
        var y = get_table(row * p.width + i % p.width);
        if (has_scale) { y *= get_scale(0u); }
        if (p.accumulate != 0u) { y += get_output(i); }
        set_output(i, y);
      }`,
    ),
  ],
};

/** A workgroup a token: the first with its index adds up all of them, in order. */
const scatter: Stage = {
  name: 'tokens',
  groups: ({ rows }) => rows,
  code: () => `
    fn run(first: u32, lane: u32) {
      let index = get_indices(first);
      if (p.skips != 0u && index == p.skipIndex) { return; }
      for (var t = 0u; t < first; t++) { if (get_indices(t) == index) { return; } }
      let factor = select(1.0, get_scale(0u), has_scale);
      let to = u32(index) * p.width;
      for (var i = lane; i < p.width; i += 64u) {
        var sum = 0.0;
        for (var t = first; t < p.rows; t++) { if (get_indices(t) == index) { sum += get_input(t * p.width + i); } }
        set_table(to + i, get_table(to + i) + factor * sum);
      }
      if (lane == 0u) { set_rowMask(u32(index), 1); }
    }`,
};

export const scatterAdd: Kernel = {
  types: { skipIndex: 'i32' },
  // No index is left out where none is named: that is NaN.
  derive: (numbers) => ({ ...checks(numbers), skips: Number.isNaN(numbers.skipIndex) ? 0 : 1 }),
  error: outside('scatterAdd'),
  stages: () => [
    checkStage(
      `fn bad(i: u32) -> bool { return u32(get_indices(i)) >= p.count && (p.skips == 0u || get_indices(i) != p.skipIndex); }
       fn culprit(i: u32) -> i32 { return get_indices(i); }`,
      ['indices'],
    ),
    scatter,
  ],
};

export const scatterRows: Kernel = {
  derive: (numbers) => ({ ...checks(numbers), elements: elements(numbers) }),
  error: outside('scatterRows'),
  stages: () => [
    check,
    elementStage(
      elements,
      `fn element(i: u32) {
        let t = i / p.width;
        let index = get_indices(t);
        // Of several with one index the last stays.
        for (var later = t + 1u; later < p.rows; later++) { if (get_indices(later) == index) { return; } }
        set_table(u32(index) * p.width + i % p.width, get_input(t * p.inputWidth + p.column + i % p.width));
      }`,
    ),
  ],
};

export const gatherScaleBackward: Kernel = {
  derive: checks,
  error: outside('gather'),
  stages: () => [
    check,
    {
      name: 'sum',
      groups: () => 1,
      threads: 256,
      uses: ['workgroup_sum'],
      code: () => `
        fn run(group: u32, lane: u32) {
          var sum = 0.0;
          for (var i = lane; i < p.rows * p.width; i += 256u) {
            sum += get_gradOutput(i) * get_table(u32(get_indices(i / p.width)) * p.width + i % p.width);
          }
          sum = workgroup_sum(sum, lane);
          if (lane == 0u) { set_gradScale(0u, get_gradScale(0u) + sum); }
        }`,
    },
  ],
};
