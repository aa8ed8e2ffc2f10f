import { firstNeuron, innerNodes, neuronsPerTree } from '../tree_shape.ts';
import type { Floats, Integers } from './arrays.ts';

interface Operands {
  thresholds: Floats | undefined;
  output: Floats;
  pathNodes: Integers | undefined;
  logits: Floats | undefined;
}

interface Numbers {
  rows: number;
  width: number;
  trees: number;
  depth: number;
  leafWidth: number;
  accumulate: number;
}

/** What a neuron, counted through all trees, does with the token of a row. */
interface Neurons {
  /** z = w_in . x + bias. */
  logit(neuron: number, row: number): number;
  /** y += gelu(z) w_out. */
  add(y: Float64Array, z: number, neuron: number): void;
}

/** The walk of every token through every tree, from the root to a leaf. Shapes as in the operation fff. */
export function walkTrees(
  { thresholds, output, pathNodes, logits }: Operands,
  { rows, width, trees, depth, leafWidth, accumulate }: Numbers,
  { logit, add }: Neurons,
): void {
  const neurons = neuronsPerTree(depth, leafWidth);
  const y = new Float64Array(width);
  for (let t = 0; t < rows; t++) {
    y.fill(0);
    for (let p = 0; p < trees; p++) {
      let k = 0;
      for (let d = 0; d <= depth; d++) {
        if (pathNodes) pathNodes[(t * trees + p) * (depth + 1) + d] = k;
        const first = p * neurons + firstNeuron(k, depth, leafWidth);
        for (let j = 0; j < (d < depth ? 1 : leafWidth); j++) {
          const z = logit(first + j, t);
          add(y, z, first + j);
          if (logits) logits[(t * trees + p) * (depth + leafWidth) + d + j] = z;
          if (d < depth) k = 2 * k + 1 + (z > (thresholds?.[p * innerNodes(depth) + k] ?? 0) ? 1 : 0);
        }
      }
    }
    const start = t * width;
    for (let i = 0; i < width; i++) output[start + i] = accumulate ? output[start + i] + y[i] : y[i];
  }
}
