import { ShapeError } from '../../errors.ts';
import { PreparedWeight, precisions } from '../prepared_weight.ts';
import type { Tensor } from '../tensor.ts';
import { innerNodes, neuronsPerTree } from '../tree_shape.ts';
import { input, operation, optional, output, preparable, updated } from './operation.ts';
import { describe, preparedFor, rowsOf } from './shapes.ts';

export interface TreeShape {
  trees: number;
  depth: number;
  /** Neurons of a leaf; 1 by default. */
  leafWidth?: number;
}

function expectTrees({ trees, depth, leafWidth = 1 }: TreeShape): void {
  if (!Number.isInteger(trees) || trees < 1) throw new ShapeError(`trees ${trees} is not a count`);
  if (!Number.isInteger(depth) || depth < 0 || depth > 24) throw new ShapeError(`depth ${depth} is not in 0 .. 24`);
  if (!Number.isInteger(leafWidth) || leafWidth < 1) throw new ShapeError(`leafWidth ${leafWidth} is not a count`);
}

/** What kernels take. */
const numbers = ['rows', 'width', 'trees', 'depth', 'leafWidth', 'accumulate'] as const;
/** Neurons of all trees, nodes and logits of each token's paths, and inner nodes of all trees. */
const extents = ['neurons', 'nodesPerRow', 'logitsPerRow', 'innerNodes'] as const;

/** `nodes`: the type of what holds them, i8 if they are prepared. */
const forwardOperands = <T extends 'f32' | 'i8'>(nodes: T) => ({
  input: input('f32'),
  nodes: preparable(nodes),
  bias: input('f32', 'neurons'),
  thresholds: optional(input('f32', 'innerNodes')),
  output: output('f32', 'rows', 'width'),
  pathNodes: optional(output('i32', 'rows', 'nodesPerRow')),
  logits: optional(output('f32', 'rows', 'logitsPerRow')),
});

/** The values of {@link numbers} and of {@link extents}. */
function measured(a: TreeShape & { accumulate?: boolean }, input: Tensor, nodes: Tensor | PreparedWeight) {
  expectTrees(a);
  const { trees, depth, leafWidth = 1, accumulate } = a;
  const neurons = trees * neuronsPerTree(depth, leafWidth);
  if (nodes.shape.length !== 2 || nodes.shape[0] !== neurons || nodes.shape[1] % 2 !== 0) {
    const leaves = leafWidth === 1 ? '' : ` with ${leafWidth} neurons a leaf`;
    throw new ShapeError(`nodes ${describe(nodes)} must be [${neurons}, 2 width] for ${trees} trees of depth ${depth}${leaves}`);
  }
  const width = nodes.shape[1] / 2;
  return {
    numbers: [rowsOf('input', input, width), width, trees, depth, leafWidth, accumulate ? 1 : 0],
    extents: [neurons, trees * (depth + 1), trees * (depth + leafWidth), trees * innerNodes(depth)],
  } as const;
}

/**
 * The fast feedforward layer (UltraFastBERT, arXiv 2311.10770): `trees` balanced binary trees of `depth`. Nodes are numbered as in a heap; an
 * inner node is one neuron, each of the 2^depth leaves L = `leafWidth` of them (1 if not given; arXiv 2308.14711), which makes n = 2^depth (1 + L) - 1 neurons a tree:
 * those of the inner nodes in order, then leaf after leaf. For each token x and tree p, from k = 0, for d = 0 .. depth - 1, i = p n + k:
 *   z = w_in[i] . x + bias[i];  y += gelu(z) w_out[i];  k = 2 k + 1 + (z > thresholds[p, k]);
 * then at the leaf k the same for each of its neurons i, without a further choice.
 * input, output [rows, width]; nodes [trees n, 2 width]: a neuron's w_in and, beside it, its w_out; bias [trees n];
 * thresholds [trees, 2^depth - 1], one an inner node; absent: all 0, the paper's layer.
 * For the backward, if given: pathNodes i32 [rows, trees, depth + 1], the nodes k within the tree; logits [rows, trees, depth + L], the z.
 * Prepared nodes compute in their {@link Precision}: in bf16 and i8 the input of a logit is rounded too, gelu(z) is not.
 */
export const fff = operation<TreeShape & { accumulate?: boolean }>()('fff', {
  operands: forwardOperands('f32'),
  numbers: [...numbers, ...extents],
  measure: (a) => {
    const { numbers, extents } = measured(a, a.input, a.nodes);
    return [...numbers, ...extents];
  },
  otherwise: ({ nodes }) => (nodes instanceof PreparedWeight ? fffPrepared : undefined),
});

/** {@link fff} with prepared nodes. */
export const fffPrepared = operation<TreeShape & { accumulate?: boolean }>()('fffPrepared', {
  operands: forwardOperands('i8'),
  numbers: [...numbers, 'precision', ...extents],
  measure: (a) => {
    const { precision } = preparedFor('fff', a.nodes);
    const { numbers, extents } = measured(a, a.input, a.nodes);
    return [...numbers, precisions.indexOf(precision), ...extents];
  },
});

/**
 * Touches the visited neurons only: dz = (dy . w_out[i]) gelu'(z); gradNodes[i] += (dz x, gelu(z) dy); gradBias[i] += dz;
 * gradInput (+)= sum of dz w_in[i]. The choice of path has no gradient; of `pathNodes` only the leaves are read, the nodes above follow
 * from them, and one that is no leaf is a late error. rowMask i32 [trees n] gets 1 at every visited neuron (rows of gradNodes and
 * gradBias whose flag is 0 hold no gradient and are zero): gradients are row-sparse. Without gradNodes, gradBias and rowMask (all three or none) only gradInput is computed.
 */
export const fffBackward = operation<TreeShape & { accumulate?: boolean }>()('fffBackward', {
  operands: {
    input: input('f32'),
    nodes: input('f32'),
    pathNodes: input('i32', 'rows', 'nodesPerRow'),
    logits: input('f32', 'rows', 'logitsPerRow'),
    gradOutput: input('f32', 'rows', 'width'),
    gradInput: output('f32', 'rows', 'width'),
    gradNodes: optional(updated('f32', 'neurons', 2, 'width')),
    gradBias: optional(updated('f32', 'neurons')),
    rowMask: optional(updated('i32', 'neurons')),
  },
  numbers: [...numbers, ...extents],
  measure: (a) => {
    if (!a.gradNodes !== !a.gradBias || !a.gradNodes !== !a.rowMask)
      throw new ShapeError('gradNodes, gradBias and rowMask are given together or not at all');
    const { numbers, extents } = measured(a, a.input, a.nodes);
    return [...numbers, ...extents];
  },
});

/**
 * How many tokens went to each side of each inner node: adds to counts i32 [trees, 2^depth - 1, 2], left and right, by the paths in
 * pathNodes i32 [rows, trees, depth + 1], as {@link fff} gives them. What is no path is a late error.
 */
export const countSplits = operation<{ trees: number; depth: number }>()('countSplits', {
  operands: { pathNodes: input('i32', 'rows', 'nodesPerRow'), counts: updated('i32', 'innerNodes', 2) },
  numbers: ['rows', 'trees', 'depth', 'nodesPerRow', 'innerNodes'],
  measure: (a) => {
    expectTrees(a);
    const nodesPerRow = a.trees * (a.depth + 1);
    return [rowsOf('pathNodes', a.pathNodes, nodesPerRow), a.trees, a.depth, nodesPerRow, a.trees * innerNodes(a.depth)];
  },
});

/**
 * Moves each node's threshold towards an even split of the tokens that came to it: thresholds += rate (right - left) / (right + left + pseudoCount), and
 * clears the counts. thresholds [nodes], counts i32 [nodes, 2], left and right. `rate` is in units of a logit.
 */
export const balanceThresholds = operation<{ rate: number; pseudoCount: number }>()('balanceThresholds', {
  operands: { counts: updated('i32', 'nodes', 2), thresholds: updated('f32') },
  numbers: ['nodes', 'rate', 'pseudoCount'],
  measure: ({ thresholds, rate, pseudoCount }) => [thresholds.size, rate, pseudoCount],
});
