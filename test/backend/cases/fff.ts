import { precisions as allPrecisions, type Precision, PreparedWeight } from '../../../src/backend/prepared_weight.ts';
import { fff as referenceFff } from '../../../src/backend/reference/fff.ts';
import { fffPrepared, prepareNodes } from '../../../src/backend/reference/prepared.ts';
import { innerNodes, neuronsPerTree } from '../../../src/backend/tree_shape.ts';
import type { Random } from '../random.ts';
import { input, normal, type OperationCase, output, sums, updated } from './case.ts';

/**
 * No logit of a case that chooses a child is nearer to its threshold than this: a thousand times float32's rounding of z, and more than a finite difference moves z by, so
 * that every backend walks the same paths and perturbed inputs keep theirs.
 */
const margin = 0.01;

export interface Variant {
  what?: string;
  rows: number;
  width: number;
  trees: number;
  depth: number;
  leafWidth?: number;
  /** Inner nodes route by thresholds of their own. */
  thresholds?: boolean;
  /** How many of the rows are different from each other; the others repeat them. */
  distinct?: number;
  accumulate?: boolean;
}

const variants: Variant[] = [
  { rows: 5, width: 16, trees: 8, depth: 0 },
  { rows: 6, width: 7, trees: 4, depth: 1 },
  { rows: 7, width: 24, trees: 2, depth: 3 },
  { rows: 1, width: 17, trees: 5, depth: 2 },
  { rows: 9, width: 1, trees: 1, depth: 2 },
  { rows: 0, width: 8, trees: 2, depth: 2 },
  { rows: 9, width: 33, trees: 3, depth: 4 },
  { rows: 4, width: 10, trees: 2, depth: 2, accumulate: true },
  { rows: 12, width: 9, trees: 1, depth: 3, distinct: 2 },
  { rows: 17, width: 100, trees: 3, depth: 5 },
  { rows: 300, width: 20, trees: 2, depth: 4 },
  { rows: 200, width: 64, trees: 1, depth: 11, distinct: 50 },
  { rows: 290, width: 18, trees: 2, depth: 8, accumulate: true },
  { rows: 40, width: 37, trees: 2, depth: 3, leafWidth: 40, distinct: 9 },
  { rows: 5, width: 7, trees: 3, depth: 0, leafWidth: 3 },
  { rows: 0, width: 8, trees: 2, depth: 2, leafWidth: 3 },
  { rows: 1, width: 17, trees: 2, depth: 2, leafWidth: 8 },
  { rows: 6, width: 5, trees: 2, depth: 1, leafWidth: 40 },
  { rows: 9, width: 21, trees: 2, depth: 3, leafWidth: 3, accumulate: true },
  { rows: 12, width: 9, trees: 1, depth: 2, leafWidth: 8, distinct: 2 },
  { rows: 150, width: 70, trees: 2, depth: 0, leafWidth: 8, accumulate: true },
  { rows: 290, width: 18, trees: 2, depth: 8, leafWidth: 3 },
  { rows: 270, width: 10, trees: 2, depth: 2, leafWidth: 5, accumulate: true },
  { rows: 300, width: 100, trees: 1, depth: 3, leafWidth: 33 },
  { rows: 7, width: 24, trees: 2, depth: 3, thresholds: true },
  { rows: 1, width: 17, trees: 5, depth: 2, thresholds: true },
  { rows: 290, width: 18, trees: 2, depth: 8, accumulate: true, thresholds: true },
  { rows: 200, width: 64, trees: 1, depth: 11, distinct: 50, thresholds: true },
  { rows: 9, width: 21, trees: 2, depth: 3, leafWidth: 3, accumulate: true, thresholds: true },
  { rows: 290, width: 18, trees: 2, depth: 8, leafWidth: 3, thresholds: true },
];

export const shapeOf = ({ rows, width, trees, depth, leafWidth, thresholds }: Variant) =>
  `${rows} x ${width}, ${trees} x depth ${depth}${leafWidth ? ` x leaf width ${leafWidth}` : ''}${thresholds ? ', thresholds' : ''}`;

/** Weights and inputs whose |z - threshold| on the paths taken are all above the margin, in each precision: rows that come closer are drawn again. */
export function decided(
  random: Random,
  { rows, width, trees, depth, leafWidth = 1, distinct = rows, thresholds = false }: Variant,
  precisions: readonly Precision[] = [],
) {
  const nodes = trees * neuronsPerTree(depth, leafWidth);
  const weights = random.normals(nodes * 2 * width, 1 / Math.sqrt(width));
  const bias = random.normals(nodes, 0.3);
  const inner = trees * innerNodes(depth);
  const limits = thresholds ? random.normals(inner, 0.5) : new Float32Array(inner);
  const pathNodes = new Int32Array(trees * (depth + 1));
  const values = new Float32Array(rows * width);
  const logits = new Float32Array(trees * (depth + leafWidth));
  const ignored = new Float32Array(width);
  const walked = { bias, thresholds: limits, output: ignored, pathNodes, logits };
  const shape = {
    ...{ rows: 1, width, trees, depth, leafWidth, accumulate: 0 },
    neurons: nodes,
    nodesPerRow: 0,
    logitsPerRow: 0,
    innerNodes: inner,
  };
  const prepared = precisions.map((precision) => {
    const data = new Int8Array(PreparedWeight.bytes('fff', [nodes, 2 * width], precision));
    const code = allPrecisions.indexOf(precision);
    prepareNodes({ nodes: weights, data }, { count: nodes, columns: 2 * width, precision: code });
    return { data, code };
  });
  for (let t = 0; t < rows; t++) {
    let row: Float32Array = values.slice((t % distinct) * width, ((t % distinct) + 1) * width);
    while (t < distinct) {
      row = random.normals(width);
      referenceFff({ ...walked, input: row, nodes: weights }, shape);
      const close = () =>
        logits.some((z, visit) => {
          const [tree, level] = [Math.floor(visit / (depth + leafWidth)), visit % (depth + leafWidth)];
          return level < depth && Math.abs(z - limits[tree * innerNodes(depth) + pathNodes[tree * (depth + 1) + level]]) < margin;
        });
      if (close()) continue;
      const closeInOne = prepared.some(({ data, code }) => {
        fffPrepared({ ...walked, input: row, nodes: data }, { ...shape, precision: code });
        return close();
      });
      if (!closeInOne) break;
    }
    values.set(row, t * width);
  }
  return {
    input: input([rows, width], values),
    nodes: input([nodes, 2 * width], weights),
    bias: input([nodes], bias),
    ...(thresholds && { thresholds: input([inner], limits) }),
  };
}

const fff = (v: Variant): OperationCase => {
  const { rows, width, trees, depth, leafWidth, distinct, accumulate = false } = v;
  const nodes = trees * neuronsPerTree(depth, leafWidth);
  const visits = depth + (leafWidth ?? 1);
  const shape = { trees, depth, leafWidth };
  const options = [shapeOf(v), distinct && `${distinct} different rows`, accumulate && 'accumulates'];
  return {
    name: `fff ${options.filter(Boolean).join(', ')}`,
    tolerance: sums,
    operands: (random) => {
      const added = (shape: number[]) => (accumulate ? updated(normal(random, shape)) : output(shape));
      return {
        ...decided(random, v),
        output: added([rows, width]),
        inference: output([rows, width]),
        pathNodes: output([rows, trees, depth + 1], 'i32'),
        logits: output([rows, trees, visits]),
        gradOutput: normal(random, [rows, width]),
        gradInput: added([rows, width]),
        gradInputAlone: output([rows, width]),
        gradNodes: updated(normal(random, [nodes, 2 * width])),
        gradBias: updated(normal(random, [nodes])),
        rowMask: updated(
          input(
            [nodes],
            random.integers(nodes, 5).map((flag) => (flag === 1 ? 1 : 0)),
          ),
        ),
      };
    },
    forward(device, { input, nodes, bias, thresholds, output, inference, pathNodes, logits }) {
      device.fff({ input, nodes, bias, thresholds, ...shape, output, accumulate, pathNodes, logits });
      device.fff({ input, nodes, bias, thresholds, ...shape, output: inference });
    },
    backward(device, { input, nodes, pathNodes, logits, gradOutput, gradInput, gradInputAlone, gradNodes, gradBias, rowMask }) {
      const common = { input, nodes, ...shape, pathNodes, logits, gradOutput };
      device.fffBackward({ ...common, gradInput, accumulate, gradNodes, gradBias, rowMask });
      device.fffBackward({ ...common, gradInput: gradInputAlone });
    },
    // Differentiating the large ones would only repeat the small ones.
    gradient:
      rows * width * trees * visits > 10000
        ? undefined
        : { outputs: { output: 'gradOutput' }, inputs: { input: 'gradInput', nodes: 'gradNodes', bias: 'gradBias' } },
  };
};

export const fffCases: OperationCase[] = [
  ...variants.map(fff),
  {
    name: 'fffBackward 4 x 9, 2 x depth 2, of the visited nodes only the leaves',
    tolerance: sums,
    operands: (random) => ({
      input: normal(random, [4, 9]),
      nodes: normal(random, [14, 18]),
      pathNodes: input(
        [4, 2, 3],
        Int32Array.from({ length: 24 }, (_, i) => (i % 3 === 2 ? 3 + random.integer(4) : -99)),
      ),
      logits: normal(random, [4, 2, 3]),
      gradOutput: normal(random, [4, 9]),
      gradInput: output([4, 9]),
      gradNodes: updated(normal(random, [14, 18])),
      gradBias: updated(normal(random, [14])),
      rowMask: updated(input([14], new Int32Array(14))),
    }),
    forward: (device, t) =>
      device.fffBackward({
        ...{ input: t.input, nodes: t.nodes, trees: 2, depth: 2, pathNodes: t.pathNodes, logits: t.logits, gradOutput: t.gradOutput },
        ...{ gradInput: t.gradInput, gradNodes: t.gradNodes, gradBias: t.gradBias, rowMask: t.rowMask },
      }),
  },
  {
    name: 'countSplits 60, 2 x depth 5, and balanceThresholds by them and by what was counted before',
    tolerance: sums,
    operands: (random) => ({
      pathNodes: input(
        [60, 2, 6],
        Int32Array.from(
          Array.from({ length: 120 }, () => 31 + random.integer(32)).flatMap((leaf) =>
            Array.from({ length: 6 }, (_, level) => ((leaf + 1) >> (5 - level)) - 1),
          ),
        ),
      ),
      counts: updated(input([2, 31, 2], random.integers(124, 9))),
      kept: updated(input([2, 31, 2], random.integers(124, 9))),
      thresholds: updated(normal(random, [2, 31])),
    }),
    forward: (device, { pathNodes, counts, kept, thresholds }) => {
      device.countSplits({ pathNodes, counts, trees: 2, depth: 5 });
      device.countSplits({ pathNodes, counts: kept, trees: 2, depth: 5 });
      device.balanceThresholds({ counts, thresholds, rate: 0.3, pseudoCount: 64 });
    },
  },
  {
    name: 'fff 2 x 3, 1 x depth 1, z equal to the threshold goes left',
    tolerance: sums,
    operands: () => ({
      input: input([2, 3], Float32Array.of(1, 0, 0, 2, 0, 0)),
      nodes: input([3, 6], Float32Array.of(1, 0, 0, 1, 1, 1, 0, 0, 0, 2, 2, 2, 0, 0, 0, 3, 3, 3)),
      bias: input([3], new Float32Array(3)),
      thresholds: input([1], Float32Array.of(1)),
      output: output([2, 3]),
      pathNodes: output([2, 1, 2], 'i32'),
    }),
    forward: (device, { input, nodes, bias, thresholds, output, pathNodes }) =>
      device.fff({ input, nodes, bias, thresholds, trees: 1, depth: 1, output, pathNodes }),
  },
  {
    name: 'fff 3 x 21, 2 x depth 3, every z is 0 and goes left',
    tolerance: sums,
    operands: (random) => ({
      input: normal(random, [3, 21]),
      nodes: input([30, 42], new Float32Array(30 * 42)),
      bias: input([30], new Float32Array(30)),
      output: output([3, 21]),
      pathNodes: output([3, 2, 4], 'i32'),
      logits: output([3, 2, 4]),
    }),
    forward: (device, { input, nodes, bias, output, pathNodes, logits }) =>
      device.fff({ input, nodes, bias, trees: 2, depth: 3, output, pathNodes, logits }),
  },
];
