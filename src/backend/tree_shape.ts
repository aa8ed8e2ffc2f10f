/**
 * Where the neurons of a fast feedforward tree lie. Nodes are numbered as in a heap: the root is 0, the children of k are 2 k + 1 and
 * 2 k + 2. An inner node is one neuron, a leaf `leafWidth` neurons side by side (the leaf width of arXiv 2308.14711; 1 in UltraFastBERT).
 */
export function neuronsPerTree(depth: number, leafWidth = 1): number {
  return 2 ** depth * (1 + leafWidth) - 1;
}

/** The first neuron of a node within its tree. */
export function firstNeuron(node: number, depth: number, leafWidth = 1): number {
  const inner = 2 ** depth - 1;
  return node < inner ? node : inner + (node - inner) * leafWidth;
}

/** Neurons of all trees, and those of them that each token uses. */
export function neuronCounts({ trees, depth, leafWidth = 1 }: { trees: number; depth: number; leafWidth?: number }): {
  total: number;
  used: number;
} {
  return { total: trees * neuronsPerTree(depth, leafWidth), used: trees * (depth + leafWidth) };
}

/**
 * For each neuron, which of the neurons that a token uses it can be: a number below `used`, tree after tree, of each its levels from the
 * root down and then the neurons of a leaf.
 */
export function placesOnPath({ trees, depth, leafWidth = 1 }: { trees: number; depth: number; leafWidth?: number }): Int32Array {
  const perTree = neuronsPerTree(depth, leafWidth);
  const inner = 2 ** depth - 1;
  return Int32Array.from({ length: trees * perTree }, (_, neuron) => {
    const [tree, within] = [Math.floor(neuron / perTree), neuron % perTree];
    const place = within < inner ? Math.floor(Math.log2(within + 1)) : depth + ((within - inner) % leafWidth);
    return tree * (depth + leafWidth) + place;
  });
}
