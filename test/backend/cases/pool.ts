import type { PoolKind } from '../../../src/backend/operations/pool.ts';
import { input, normal, type OperationCase, output, sums } from './case.ts';

const kinds: PoolKind[] = ['first', 'mean', 'max', 'logSumExp'];
const shapes = [
  [3, 5, 7],
  [1, 1, 1],
  [2, 130, 33],
  [4, 2, 16],
];

/** Every third position left out, and the whole beginning of the second sequence; at least one stays in each. */
function somePositions(batch: number, length: number): Int32Array {
  return Int32Array.from({ length: batch * length }, (_, i) => {
    const [b, t] = [Math.floor(i / length), i % length];
    return t === length - 1 || (t % 3 !== 1 && !(b === 1 && t < length / 2)) ? 1 : 0;
  });
}

const pool = (kind: PoolKind, [batch, length, width]: number[], masked = false): OperationCase => ({
  name: `pool ${kind} ${batch} x ${length} x ${width}${masked ? ', masked' : ''}`,
  tolerance: sums,
  operands: (random) => ({
    input: normal(random, [batch * length, width], 3),
    output: output([batch, width]),
    inference: output([batch, width]),
    ...(masked && { mask: input([batch, length], somePositions(batch, length)) }),
    ...(kind === 'max' && { selected: output([batch, width], 'i32') }),
    gradOutput: normal(random, [batch, width]),
    gradInput: output([batch * length, width]),
  }),
  forward(device, { input, output, inference, selected, mask }) {
    device.pool({ input, batch, length, kind, output, selected, mask });
    device.pool({ input, batch, length, kind, output: inference, mask });
  },
  backward: (device, { input, output, selected, gradOutput, gradInput, mask }) =>
    device.poolBackward({ batch, length, kind, gradOutput, gradInput, input, output, selected, mask }),
  gradient: { outputs: { output: 'gradOutput' }, inputs: { input: 'gradInput' } },
});

export const poolCases: OperationCase[] = [
  ...kinds.flatMap((kind) => shapes.flatMap((shape) => [pool(kind, shape), pool(kind, shape, true)])),
  {
    name: 'pool where the mask leaves no position',
    tolerance: sums,
    operands: (random) => ({
      input: normal(random, [2 * 3, 17]),
      mask: input([2, 3], Int32Array.of(0, 0, 0, 0, 1, 0)),
      mean: output([2, 17]),
      max: output([2, 17]),
      selected: output([2, 17], 'i32'),
      logSumExp: output([2, 17]),
    }),
    forward(device, { input, mask, mean, max, selected, logSumExp }) {
      const common = { input, mask, batch: 2, length: 3 };
      device.pool({ ...common, kind: 'mean', output: mean });
      device.pool({ ...common, kind: 'max', output: max, selected });
      device.pool({ ...common, kind: 'logSumExp', output: logSumExp });
    },
  },
  {
    name: 'pool max selects the first of equal maxima',
    tolerance: sums,
    operands: (random) => ({
      input: input([2 * 6, 19], Float32Array.from(random.integers(2 * 6 * 19, 3))),
      output: output([2, 19]),
      selected: output([2, 19], 'i32'),
    }),
    forward: (device, { input, output, selected }) => device.pool({ input, batch: 2, length: 6, kind: 'max', output, selected }),
  },
];
