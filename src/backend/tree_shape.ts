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
 * The branches that each neuron belongs to, a list for each of some levels, the deepest first: neurons are of one branch if they lie below
 * (or are) the same node of that level and have the same place on the path, that is their tree and their level or, in a leaf, their number.
 * The first list gives each neuron's branch, every further one that branch's own, so that the last one's are the places themselves.
 * Branches are numbered from 0 in each list.
 */
export function branches({ trees, depth, leafWidth = 1 }: { trees: number; depth: number; leafWidth?: number }): Int32Array[] {
  const perTree = neuronsPerTree(depth, leafWidth);
  const inner = 2 ** depth - 1;
  // Counted from 1, a node's ancestor so many levels above it is its number shifted right so often.
  let members = Array.from({ length: trees * perTree }, (_, neuron) => {
    const [tree, within] = [Math.floor(neuron / perTree), neuron % perTree];
    const node = within < inner ? within : inner + Math.floor((within - inner) / leafWidth);
    return { tree, top: node + 1, level: levelOf(node + 1), number: within < inner ? 0 : (within - inner) % leafWidth };
  });
  const lists: Int32Array[] = [];
  for (let among = Math.max(0, 2 * Math.ceil(depth / 2 - 1.5)); among >= 0; among -= 2) {
    const found = new Map<string, number>();
    const next: typeof members = [];
    lists.push(
      Int32Array.from(members, (member) => {
        const top = member.top >> Math.max(0, levelOf(member.top) - among);
        const key = `${member.tree} ${member.level} ${member.number} ${top}`;
        let branch = found.get(key);
        if (branch === undefined) {
          branch = found.size;
          found.set(key, branch);
          next.push({ ...member, top });
        }
        return branch;
      }),
    );
    members = next;
  }
  return lists;
}

const levelOf = (node: number) => Math.floor(Math.log2(node));
