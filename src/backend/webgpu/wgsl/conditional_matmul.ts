import { checkStage, elementStage, type Kernel, type Numbers } from '../kernel.ts';

const checks = ({ rows, choices }: Numbers) => ({ checks: rows * choices });
const error =
  (operation: string) =>
  ({ choices, blocks }: Numbers, position: number, value: number) =>
    `${operation}: block ${value}, chosen by row ${Math.floor(position / choices)}, is not one of ${blocks}`;
const check = checkStage(
  `fn bad(i: u32) -> bool { return u32(get_chosen(i)) >= p.blocks; }
   fn culprit(i: u32) -> i32 { return get_chosen(i); }`,
  ['chosen'],
);
/** The weight's row that output o of row r meets. */
const rowOf =
  'fn row_of(r: u32, o: u32) -> u32 { return u32(get_chosen(r * p.choices + o / p.blockSize)) * p.blockSize + o % p.blockSize; }';

const outputs = ({ rows, choices, blockSize }: Numbers) => rows * choices * blockSize;

/** A workgroup an output. */
export const conditionalMatmul: Kernel = {
  derive: checks,
  error: error('conditionalMatmul'),
  stages: () => [
    check,
    {
      name: 'products',
      groups: outputs,
      uses: ['workgroup_sum'],
      code: () => `
        ${rowOf}
        fn run(at: u32, lane: u32) {
          let r = at / (p.choices * p.blockSize);
          let row = row_of(r, at % (p.choices * p.blockSize));
          var sum = 0.0;
          for (var i = lane; i < p.inputs; i += 64u) { sum += get_input(r * p.inputs + i) * get_weight(row * p.inputs + i); }
          sum = workgroup_sum(sum, lane) + get_bias(row);
          if (lane != 0u) { return; }
          if (p.accumulate != 0u) { sum += get_output(at); }
          set_output(at, sum);
        }`,
    },
  ],
};

const elements = ({ rows, inputs }: Numbers) => rows * inputs;

export const conditionalMatmulBackwardInput: Kernel = {
  derive: (numbers) => ({ ...checks(numbers), elements: elements(numbers) }),
  error: error('conditionalMatmulBackwardInput'),
  stages: () => [
    check,
    elementStage(
      elements,
      `${rowOf}
      fn element(at: u32) {
        let r = at / p.inputs;
        let outputs = p.choices * p.blockSize;
        var sum = 0.0;
        for (var o = 0u; o < outputs; o++) { sum += get_gradOutput(r * outputs + o) * get_weight(row_of(r, o) * p.inputs + at % p.inputs); }
        if (p.accumulate != 0u) { sum += get_gradInput(at); }
        set_gradInput(at, sum);
      }`,
    ),
  ],
};

/** A workgroup a row of the weight: it looks through all choices for its block. */
export const conditionalMatmulBackwardWeight: Kernel = {
  derive: checks,
  error: error('conditionalMatmulBackwardWeight'),
  stages: () => [
    check,
    {
      name: 'rows',
      groups: ({ blocks, blockSize }) => blocks * blockSize,
      code: () => `
        fn run(row: u32, lane: u32) {
          let block = i32(row / p.blockSize);
          let within = row % p.blockSize;
          let count = p.rows * p.choices;
          var chosen = false;
          var bias = 0.0;
          for (var c = 0u; c < count; c++) {
            if (get_chosen(c) == block) { chosen = true; bias += get_gradOutput(c * p.blockSize + within); }
          }
          if (!chosen) { return; }
          for (var i = lane; i < p.inputs; i += 64u) {
            var sum = 0.0;
            for (var c = 0u; c < count; c++) {
              if (get_chosen(c) == block) { sum += get_gradOutput(c * p.blockSize + within) * get_input((c / p.choices) * p.inputs + i); }
            }
            set_gradWeight(row * p.inputs + i, get_gradWeight(row * p.inputs + i) + sum);
          }
          if (lane == 0u) {
            set_gradBias(row, get_gradBias(row) + bias);
            set_rowMask(row, 1);
          }
        }`,
    },
  ],
};
