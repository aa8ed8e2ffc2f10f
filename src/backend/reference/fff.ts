import type * as operations from '../operations/fff.ts';
import type { Implementation } from '../operations/operation.ts';
import { firstNeuron, innerNodes, neuronsPerTree } from '../tree_shape.ts';
import { addScaled, dot, positionsByValue } from './arrays.ts';
import { geluSlope, geluValue } from './gelu.ts';
import { walkTrees } from './trees.ts';

/** The fast feedforward layer (UltraFastBERT, arXiv 2311.10770, algorithm 1; leaf width: arXiv 2308.14711). Shapes as in the operation fff. */
export const fff: Implementation<typeof operations.fff> = ({ input, nodes, bias, ...operands }, numbers) => {
  const { width } = numbers;
  walkTrees(operands, numbers, {
    logit: (neuron, row) => dot(input, row * width, nodes, neuron * 2 * width, width) + bias[neuron],
    add: (y, z, neuron) => addScaled(y, geluValue(z), nodes, (neuron * 2 + 1) * width, width),
  });
};

/** dz = (dy . w_out) gelu'(z) at every visited neuron; the other gradients follow from it. Shapes as in the operation fffBackward. */
export const fffBackward: Implementation<typeof operations.fffBackward> = (
  { input, nodes, pathNodes, logits, gradOutput, gradInput, gradNodes, gradBias, rowMask },
  { rows, width, trees, depth, leafWidth, accumulate },
) => {
  const neurons = neuronsPerTree(depth, leafWidth);
  const visitsPerRow = trees * (depth + leafWidth);
  // The neuron (counted through all trees) and the dz of each visit (t, p, v): v < depth is a level, the others are the leaf's neurons.
  const neuronOfVisit = Int32Array.from({ length: rows * visitsPerRow }, (_, visit) => {
    const walk = Math.floor(visit / (depth + leafWidth));
    const v = visit % (depth + leafWidth);
    const d = Math.min(v, depth);
    const leaf = pathNodes[walk * (depth + 1) + depth];
    if (leaf < 2 ** depth - 1 || leaf >= 2 ** (depth + 1) - 1) {
      throw new RangeError(`fffBackward: node ${leaf}, visited by token ${Math.floor(walk / trees)}, is not on level ${depth}`);
    }
    const k = ((leaf + 1) >> (depth - d)) - 1; // its ancestor on level d
    return (walk % trees) * neurons + firstNeuron(k, depth, leafWidth) + v - d;
  });
  const gradLogits = new Float64Array(neuronOfVisit.length);
  const dx = new Float64Array(width);
  for (let t = 0; t < rows; t++) {
    dx.fill(0);
    for (let visit = t * visitsPerRow; visit < (t + 1) * visitsPerRow; visit++) {
      const inStart = neuronOfVisit[visit] * 2 * width;
      const outStart = inStart + width;
      const dz = dot(gradOutput, t * width, nodes, outStart, width) * geluSlope(logits[visit]);
      addScaled(dx, dz, nodes, inStart, width);
      gradLogits[visit] = dz;
    }
    const start = t * width;
    for (let i = 0; i < width; i++) gradInput[start + i] = accumulate ? gradInput[start + i] + dx[i] : dx[i];
  }
  if (!gradNodes || !gradBias || !rowMask) return;

  const gradIn = new Float64Array(width);
  const gradOut = new Float64Array(width);
  for (const [neuron, visits] of positionsByValue(neuronOfVisit)) {
    gradIn.fill(0);
    gradOut.fill(0);
    let gradOneBias = 0;
    for (const visit of visits) {
      const start = Math.floor(visit / visitsPerRow) * width;
      addScaled(gradIn, gradLogits[visit], input, start, width);
      addScaled(gradOut, geluValue(logits[visit]), gradOutput, start, width);
      gradOneBias += gradLogits[visit];
    }
    const inStart = neuron * 2 * width;
    const outStart = inStart + width;
    for (let i = 0; i < width; i++) {
      gradNodes[inStart + i] += gradIn[i];
      gradNodes[outStart + i] += gradOut[i];
    }
    gradBias[neuron] += gradOneBias;
    rowMask[neuron] = 1;
  }
};

/** Adds to counts [trees, inner nodes, 2] how many tokens went left and right. Shapes as in the operation countSplits. */
export const countSplits: Implementation<typeof operations.countSplits> = ({ pathNodes, counts }, { rows, trees, depth }) => {
  const inner = innerNodes(depth);
  for (let walk = 0; walk < rows * trees; walk++) {
    for (let d = 0; d < depth; d++) {
      const node = pathNodes[walk * (depth + 1) + d];
      const right = pathNodes[walk * (depth + 1) + d + 1] - (2 * node + 1);
      if (node < innerNodes(d) || node > 2 * innerNodes(d) || (right !== 0 && right !== 1))
        throw new RangeError(`countSplits: the nodes visited are no paths of trees of depth ${depth}`);
      counts[((walk % trees) * inner + node) * 2 + right]++;
    }
  }
};

/** Moves thresholds [nodes] towards even splits and clears counts [nodes, 2]. See the operation balanceThresholds. */
export const balanceThresholds: Implementation<typeof operations.balanceThresholds> = (
  { counts, thresholds },
  { nodes, rate, pseudoCount },
) => {
  for (let node = 0; node < nodes; node++) {
    const [left, right] = [counts[2 * node], counts[2 * node + 1]];
    if (left + right > 0) thresholds[node] += (rate * (right - left)) / (left + right + pseudoCount);
    counts[2 * node] = counts[2 * node + 1] = 0;
  }
};
