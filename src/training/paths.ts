import type { Tensor } from '../backend/tensor.ts';
import type { Run } from '../nn/parameter.ts';

/** Where tokens went: for each fast feedforward layer, the leaf of each token in each tree, [tokens trees]. */
export type Leaves = readonly Int32Array[];

/** Runs a forward pass and tells where its tokens went. */
export async function watchLeaves<Result>(run: Run, forward: (run: Run) => Result | Promise<Result>): Promise<[Result, Leaves]> {
  const copies: Tensor[] = [];
  try {
    const watchPaths = (_: Tensor, visited: Tensor) => {
      const copy = run.backend.tensor('visited nodes', visited.shape, 'i32');
      copies.push(copy);
      run.backend.copy({ input: visited, output: copy });
    };
    const result = await forward({ ...run, watchPaths });
    const leaves: Int32Array[] = [];
    for (const copy of copies) {
      const visited = await run.backend.readIntegers(copy);
      const levels = copy.shape[2];
      leaves.push(Int32Array.from({ length: visited.length / levels }, (_, walk) => visited[walk * levels + levels - 1]));
    }
    return [result, leaves];
  } finally {
    for (const copy of copies) copy.dispose();
  }
}

/** How many of some walks ended in another leaf, and of how many. */
export function compareLeaves(leaves: Leaves, others: Leaves): { changed: number; walks: number } {
  let [changed, walks] = [0, 0];
  for (const [layer, own] of leaves.entries()) {
    own.forEach((leaf, walk) => {
      if (leaf !== others[layer][walk]) changed++;
    });
    walks += own.length;
  }
  return { changed, walks };
}

/** Of a distribution given by counts, bits. */
export function entropyOf(counts: ArrayLike<number>): number {
  const all = Array.from(counts);
  const total = all.reduce((sum, count) => sum + count, 0);
  return all.reduce((sum, count) => (count > 0 ? sum - (count / total) * Math.log2(count / total) : sum), 0);
}
