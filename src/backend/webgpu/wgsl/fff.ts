import { neuronsPerTree } from '../../tree_shape.ts';
import { ceilDivide, checkStage, elementStage, type Kernel, type Numbers, type Stage } from '../kernel.ts';
import { addend } from './linear.ts';

/** What the walk through the trees needs to know of the numbers of a neuron. */
export interface TreeCode {
  /** Elements of a row that a thread has side by side: those of a word. */
  perWord: number;
  /** WGSL before the walk, in `run`, with the row's elements in `x`. */
  prepare?: string;
  /** WGSL of the neuron's logit, which every thread gets: its partial sums in `sum`, added up. */
  logit: string;
  /** WGSL that adds gelu(z) times the neuron's output to `y`. `activation` is gelu(z). */
  add: string;
  functions?: string;
}

/**
 * One dispatch a layer: a workgroup of 64 threads walks all trees for its token. The row and the output stay in registers, and the threads
 * add up each logit in one fixed order, so that all of them go the same way, and so does the token in whatever batch.
 */
export function walkCode(numbers: Numbers, { perWord, prepare = '', logit, add, functions = '' }: TreeCode): string {
  const { width, depth, leafWidth, accumulate } = numbers;
  const words = ceilDivide(ceilDivide(width, perWord), 64);
  const elements = (code: string) => `
    for (var w = 0u; w < ${words}u; w++) {
      for (var e = 0u; e < ${perWord}u; e++) {
        let i = (w * 64u + lane) * ${perWord}u + e;
        if (i < ${width}u) { ${code} }
      }
    }`;
  const inner = 2 ** depth - 1;
  return `
    const words = ${words}u;
    ${accumulate ? addend : ''}
    ${functions}
    fn run(row: u32, lane: u32) {
      var x: array<f32, ${words * perWord}>;
      var y: array<f32, ${words * perWord}>;
      ${elements(`x[w * ${perWord}u + e] = get_input(row * ${width}u + i);`)}
      ${prepare}
      for (var tree = 0u; tree < p.trees; tree++) {
        let walk = row * p.trees + tree;
        var node = 0u;
        for (var level = 0u; level <= ${depth}u; level++) {
          if (lane == 0u) { set_pathNodes(walk * ${depth + 1}u + level, i32(node)); }
          var within = node;
          if (node >= ${inner}u) { within = ${inner}u + (node - ${inner}u) * ${leafWidth}u; }
          let first = tree * ${neuronsPerTree(depth, leafWidth)}u + within;
          let count = select(${leafWidth}u, 1u, level < ${depth}u);
          for (var j = 0u; j < count; j++) {
            let neuron = first + j;
            ${logit}
            if (lane == 0u) { set_logits(walk * ${depth + leafWidth}u + level + j, z); }
            let activation = gelu(z);
            ${add}
            if (level < ${depth}u) {
              let threshold = get_thresholds(tree * ${inner}u + node);
              node = 2u * node + select(1u, 2u, z > threshold);
            }
          }
        }
      }
      ${elements(`set_output(row * ${width}u + i, y[w * ${perWord}u + e]${accumulate ? ` + addend(row * ${width}u + i)` : ''});`)}
    }`;
}

const ofF32 = (numbers: Numbers): TreeCode => {
  const { width } = numbers;
  return {
    perWord: 1,
    logit: `
      var sum = 0.0;
      for (var w = 0u; w < words; w++) {
        let i = w * 64u + lane;
        if (i < ${width}u) { sum += x[w] * get_nodes(neuron * ${2 * width}u + i); }
      }
      let z = workgroup_sum(sum, lane) + get_bias(neuron);`,
    add: `
      for (var w = 0u; w < words; w++) {
        let i = w * 64u + lane;
        if (i < ${width}u) { y[w] += activation * get_nodes(neuron * ${2 * width}u + ${width}u + i); }
      }`,
  };
};

export const treeConstants = ['width', 'depth', 'leafWidth', 'accumulate'];

export const fff: Kernel = {
  constants: treeConstants,
  stages: () => [
    { name: 'tokens', groups: ({ rows }) => rows, uses: ['workgroup_sum', 'gelu'], code: (numbers) => walkCode(numbers, ofF32(numbers)) },
  ],
};

/** Of a leaf reached: its ancestor on a level. */
const ancestor = (depth: number) => `fn ancestor(leaf: u32, level: u32) -> u32 { return ((leaf + 1u) >> (${depth}u - level)) - 1u; }`;

/** A workgroup a token: its dz, for the next stage, and its dx. */
const ofTokens: Stage = {
  name: 'tokens',
  operands: ['nodes', 'pathNodes', 'logits', 'gradOutput', 'gradInput'],
  groups: ({ rows }) => rows,
  uses: ['workgroup_sum', 'gelu'],
  code: ({ width, depth, leafWidth, accumulate }) => {
    const words = ceilDivide(width, 64);
    const inner = 2 ** depth - 1;
    return `
      ${ancestor(depth)}
      fn run(row: u32, lane: u32) {
        var dx: array<f32, ${words}>;
        for (var tree = 0u; tree < p.trees; tree++) {
          let walk = row * p.trees + tree;
          let leaf = u32(get_pathNodes(walk * ${depth + 1}u + ${depth}u));
          for (var visit = 0u; visit < ${depth + leafWidth}u; visit++) {
            let node = ancestor(leaf, min(visit, ${depth}u));
            var within = node;
            if (visit >= ${depth}u) { within = ${inner}u + (node - ${inner}u) * ${leafWidth}u + visit - ${depth}u; }
            let start = (tree * ${neuronsPerTree(depth, leafWidth)}u + within) * ${2 * width}u;
            var sum = 0.0;
            for (var w = 0u; w < ${words}u; w++) {
              let i = w * 64u + lane;
              if (i < ${width}u) { sum += get_gradOutput(row * ${width}u + i) * get_nodes(start + ${width}u + i); }
            }
            let at = walk * ${depth + leafWidth}u + visit;
            let dz = workgroup_sum(sum, lane) * gelu_slope(get_logits(at));
            if (lane == 0u) { set_scratch(at, bitcast<u32>(dz)); }
            for (var w = 0u; w < ${words}u; w++) {
              let i = w * 64u + lane;
              if (i < ${width}u) { dx[w] += dz * get_nodes(start + i); }
            }
          }
        }
        for (var w = 0u; w < ${words}u; w++) {
          let i = w * 64u + lane;
          if (i >= ${width}u) { continue; }
          let at = row * ${width}u + i;
          set_gradInput(at, dx[w]${accumulate ? ' + get_gradInput(at)' : ''});
        }
      }`;
  },
};

/** A workgroup a neuron: it adds up, in order, what the tokens that came to it give. */
const ofNeurons: Stage = {
  name: 'neurons',
  onlyWith: ['gradNodes'],
  operands: ['input', 'pathNodes', 'logits', 'gradOutput', 'gradNodes', 'gradBias', 'rowMask'],
  groups: ({ neurons }) => neurons,
  uses: ['gelu'],
  code: ({ width, depth, leafWidth }) => {
    const words = ceilDivide(width, 64);
    const inner = 2 ** depth - 1;
    const perTree = neuronsPerTree(depth, leafWidth);
    return `
      ${ancestor(depth)}
      fn run(neuron: u32, lane: u32) {
        let tree = neuron / ${perTree}u;
        var node = neuron % ${perTree}u;
        var visit = ${depth}u;
        if (node >= ${inner}u) {
          visit += (node - ${inner}u) % ${leafWidth}u;
          node = ${inner}u + (node - ${inner}u) / ${leafWidth}u;
        } else {
          visit = 31u - countLeadingZeros(node + 1u);
        }
        let level = min(visit, ${depth}u);
        var visited = false;
        var bias = 0.0;
        var inward: array<f32, ${words}>;
        var outward: array<f32, ${words}>;
        for (var row = 0u; row < p.rows; row++) {
          let walk = row * p.trees + tree;
          if (ancestor(u32(get_pathNodes(walk * ${depth + 1}u + ${depth}u)), level) != node) { continue; }
          visited = true;
          let at = walk * ${depth + leafWidth}u + visit;
          let dz = bitcast<f32>(get_scratch(at));
          let activation = gelu(get_logits(at));
          bias += dz;
          for (var w = 0u; w < ${words}u; w++) {
            let i = w * 64u + lane;
            if (i < ${width}u) {
              inward[w] += dz * get_input(row * ${width}u + i);
              outward[w] += activation * get_gradOutput(row * ${width}u + i);
            }
          }
        }
        if (!visited) { return; }
        for (var w = 0u; w < ${words}u; w++) {
          let i = w * 64u + lane;
          if (i >= ${width}u) { continue; }
          let at = neuron * ${2 * width}u + i;
          set_gradNodes(at, get_gradNodes(at) + inward[w]);
          set_gradNodes(at + ${width}u, get_gradNodes(at + ${width}u) + outward[w]);
        }
        if (lane == 0u) {
          set_gradBias(neuron, get_gradBias(neuron) + bias);
          set_rowMask(neuron, 1);
        }
      }`;
  },
};

export const fffBackward: Kernel = {
  constants: treeConstants,
  derive: ({ rows, trees }) => ({ checks: rows * trees }),
  scratch: ({ rows, logitsPerRow }) => Math.max(4, 4 * rows * logitsPerRow),
  error: ({ trees, depth }, position, value) =>
    `fffBackward: node ${value}, visited by token ${Math.floor(position / trees)}, is not on level ${depth}`,
  stages: ({ depth }) => [
    checkStage(
      `fn culprit(i: u32) -> i32 { return get_pathNodes(i * ${depth + 1}u + ${depth}u); }
       fn bad(i: u32) -> bool { let leaf = culprit(i); return leaf < ${2 ** depth - 1} || leaf >= ${2 ** (depth + 1) - 1}; }`,
      ['pathNodes'],
    ),
    ofTokens,
    ofNeurons,
  ],
};

/** A thread a node and side: it looks through all paths, so that no two add at a time. */
export const countSplits: Kernel = {
  constants: ['depth'],
  derive: ({ rows, trees, innerNodes }) => ({ checks: rows * trees, elements: 2 * innerNodes }),
  error: ({ depth }) => `countSplits: the nodes visited are no paths of trees of depth ${depth}`,
  stages: ({ depth }) => [
    checkStage(
      `fn culprit(i: u32) -> i32 { return 0; }
       fn bad(walk: u32) -> bool {
         for (var level = 0u; level < ${depth}u; level++) {
           let node = get_pathNodes(walk * ${depth + 1}u + level);
           let right = get_pathNodes(walk * ${depth + 1}u + level + 1u) - (2 * node + 1);
           let first = (1 << level) - 1;
           if (node < first || node > 2 * first || (right != 0 && right != 1)) { return true; }
         }
         return false;
       }`,
      ['pathNodes'],
    ),
    elementStage(
      ({ innerNodes }) => 2 * innerNodes,
      `fn element(i: u32) {
        let tree = i / 2u / ${Math.max(1, 2 ** depth - 1)}u;
        let node = i / 2u % ${Math.max(1, 2 ** depth - 1)}u;
        let level = 31u - countLeadingZeros(node + 1u);
        let child = i32(2u * node + 1u + i % 2u);
        var count = 0;
        for (var row = 0u; row < p.rows; row++) {
          if (get_pathNodes((row * p.trees + tree) * ${depth + 1}u + level + 1u) == child) { count++; }
        }
        set_counts(i, get_counts(i) + count);
      }`,
    ),
  ],
};

export const balanceThresholds: Kernel = {
  types: { rate: 'f32', pseudoCount: 'f32' },
  derive: ({ nodes }) => ({ elements: nodes }),
  stages: () => [
    elementStage(
      ({ nodes }) => nodes,
      `fn element(node: u32) {
        let left = get_counts(2u * node);
        let right = get_counts(2u * node + 1u);
        if (left + right > 0) {
          set_thresholds(node, get_thresholds(node) + p.rate * f32(right - left) / (f32(left + right) + p.pseudoCount));
        }
        set_counts(2u * node, 0);
        set_counts(2u * node + 1u, 0);
      }`,
    ),
  ],
};
