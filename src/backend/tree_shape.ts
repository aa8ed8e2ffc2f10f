/**
 * Where the neurons of a fast feedforward tree lie. Nodes are numbered as in a heap: the root is 0, the children of k are 2 k + 1 and
 * 2 k + 2. An inner node is one neuron, a leaf `leafWidth` neurons side by side (the leaf width of arXiv 2308.14711; 1 in UltraFastBERT).
 */
export function neuronsPerTree(depth: number, leafWidth = 1): number {
  return 2 ** depth * (1 + leafWidth) - 1;
}

/** Inner nodes of a tree, numbered before its leaves. */
export const innerNodes = (depth: number) => 2 ** depth - 1;

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
 * The branches that each neuron belongs to, a list for every second level from the deepest with two levels below it up to the root's:
 * neurons are of one branch if they lie below (or are) the same node of that level and have the same place on the path, that is their
 * tree and their level or, in a leaf, their number. A neuron above that level is a branch by itself.
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
    return { tree, ancestor: node + 1, level: levelOf(node + 1), numberInLeaf: within < inner ? 0 : (within - inner) % leafWidth };
  });
  const lists: Int32Array[] = [];
  const deepest = Math.max(0, 2 * Math.floor((depth - 2) / 2));
  for (let rootLevel = deepest; rootLevel >= 0; rootLevel -= 2) {
    const found = new Map<string, number>();
    const next: typeof members = [];
    lists.push(
      Int32Array.from(members, (member) => {
        const ancestor = member.ancestor >> Math.max(0, levelOf(member.ancestor) - rootLevel);
        const key = `${member.tree} ${member.level} ${member.numberInLeaf} ${ancestor}`;
        let branch = found.get(key);
        if (branch === undefined) {
          branch = found.size;
          found.set(key, branch);
          next.push({ ...member, ancestor });
        }
        return branch;
      }),
    );
    members = next;
  }
  return lists;
}

const levelOf = (node: number) => Math.floor(Math.log2(node));
