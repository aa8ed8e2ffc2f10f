import { innerNodes } from '../../../src/backend/tree_shape.ts';
import { input, normal, output } from '../../backend/cases/case.ts';
import type { Random } from '../../backend/random.ts';
import { depth, nodes, tokens, width, zeros } from '../operands.ts';
import type { SpeedCase } from '../speed_cases.ts';

const visits = depth + 1;
const fffOperands = (rows: number) => (random: Random) => ({
  input: normal(random, [rows, width]),
  nodes: normal(random, [nodes, 2 * width], 1 / Math.sqrt(width)),
  bias: zeros([nodes]),
  output: normal(random, [rows, width]),
});
const shape = { trees: 1, depth };
/** The nodes from the root to a leaf, which is counted from the left. */
const pathTo = (leaf: number) => Array.from({ length: visits }, (_, level) => ((2 ** depth + leaf) >> (depth - level)) - 1);
export const fff: SpeedCase[] = [
  ...[1, tokens, 2048].flatMap((rows): SpeedCase[] => [
    {
      name: `fff ${rows} x ${width}, 1 x depth ${depth}`,
      operands: fffOperands(rows),
      run: (device, { input, nodes, bias, output }) => device.fff({ input, nodes, bias, ...shape, output }),
      operations: 4 * rows * visits * width,
    },
    ...(['bf16', 'i8'] as const).map(
      (precision): SpeedCase => ({
        name: `fff ${rows} x ${width}, 1 x depth ${depth}, prepared in ${precision}`,
        operands: fffOperands(rows),
        setUp: (device, { nodes }) => device.prepareNodes({ nodes, precision }),
        run: (device, { input, bias, output }, nodes) => device.fff({ input, nodes: nodes as never, bias, ...shape, output }),
        operations: 4 * rows * visits * width,
      }),
    ),
  ]),
  ...(['bf16', 'i8'] as const).map(
    (precision): SpeedCase => ({
      name: `prepareNodes ${precision}`,
      operands: fffOperands(1),
      run: (device, { nodes }) => device.prepareNodes({ nodes, precision }).dispose(),
      bytes: 8 * nodes * width,
    }),
  ),
  {
    name: `fff ${tokens} x ${width}, 1 x depth ${depth}, thresholds`,
    operands: (random) => ({ ...fffOperands(tokens)(random), thresholds: normal(random, [innerNodes(depth)], 0.3) }),
    run: (device, { input, nodes, bias, thresholds, output }) => device.fff({ input, nodes, bias, thresholds, ...shape, output }),
    operations: 4 * tokens * visits * width,
  },
  {
    name: `countSplits ${tokens}, 1 x depth ${depth}`,
    operands: (random) => ({
      pathNodes: input([tokens, 1, visits], Int32Array.from([...random.integers(tokens, 2 ** depth)].flatMap(pathTo))),
      counts: output([innerNodes(depth), 2], 'i32'),
    }),
    run: (device, { pathNodes, counts }) => device.countSplits({ pathNodes, counts, ...shape }),
    bytes: 4 * tokens * visits,
  },
  {
    name: `balanceThresholds, 1 x depth ${depth}`,
    operands: (random) => ({
      counts: input([innerNodes(depth), 2], random.integers(2 * innerNodes(depth), 9)),
      thresholds: normal(random, [innerNodes(depth)]),
    }),
    run: (device, { counts, thresholds }) => device.balanceThresholds({ counts, thresholds, rate: 0.3, pseudoCount: 64 }),
    bytes: 16 * innerNodes(depth),
  },
  {
    name: `fffBackward ${tokens} x ${width}, 1 x depth ${depth}`,
    operands: (random) => ({
      ...fffOperands(tokens)(random),
      gradInput: zeros([tokens, width]),
      gradNodes: zeros([nodes, 2 * width]),
      gradBias: zeros([nodes]),
      rowMask: output([nodes], 'i32'),
      pathNodes: output([tokens, 1, visits], 'i32'),
      logits: output([tokens, 1, visits]),
    }),
    setUp(device, { input, nodes, bias, output, pathNodes, logits }) {
      device.fff({ input, nodes, bias, ...shape, output, pathNodes, logits });
      return { [Symbol.dispose]() {} };
    },
    run: (device, { input, nodes, pathNodes, logits, output, gradInput, gradNodes, gradBias, rowMask }) =>
      device.fffBackward({ input, nodes, ...shape, pathNodes, logits, gradOutput: output, gradInput, gradNodes, gradBias, rowMask }),
    operations: 8 * tokens * visits * width,
  },
];
