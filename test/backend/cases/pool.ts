import type { PoolKind } from '../../../src/backend/backend.ts';
import { input, normal, type OperationCase, output, sums } from './case.ts';

const kinds: PoolKind[] = ['first', 'mean', 'max', 'logSumExp'];
const shapes = [
  [3, 5, 7],
  [1, 1, 1],
  [2, 130, 33],
  [4, 2, 16],
];

const pool = (kind: PoolKind, [batch, length, width]: number[]): OperationCase => ({
  name: `pool ${kind} ${batch} x ${length} x ${width}`,
  tolerance: sums,
  operands: (random) => ({
    input: normal(random, [batch * length, width], 3),
    output: output([batch, width]),
    inference: output([batch, width]),
    ...(kind === 'max' && { selected: output([batch, width], 'i32') }),
    gradOutput: normal(random, [batch, width]),
    gradInput: output([batch * length, width]),
  }),
  forward(backend, { input, output, inference, selected }) {
    backend.pool({ input, batch, length, kind, output, selected });
    backend.pool({ input, batch, length, kind, output: inference });
  },
  backward: (backend, { input, output, selected, gradOutput, gradInput }) =>
    backend.poolBackward({ batch, length, kind, gradOutput, gradInput, input, output, selected }),
  gradient: { outputs: { output: 'gradOutput' }, inputs: { input: 'gradInput' } },
});

export const poolCases: OperationCase[] = [
  ...kinds.flatMap((kind) => shapes.map((shape) => pool(kind, shape))),
  {
    name: 'pool max selects the first of equal maxima',
    tolerance: sums,
    operands: (random) => ({
      input: input([2 * 6, 19], Float32Array.from(random.integers(2 * 6 * 19, 3))),
      output: output([2, 19]),
      selected: output([2, 19], 'i32'),
    }),
    forward: (backend, { input, output, selected }) => backend.pool({ input, batch: 2, length: 6, kind: 'max', output, selected }),
  },
];
