import type { Tensor } from '../backend/tensor.ts';
import { neuronsPerTree } from '../backend/tree_shape.ts';
import type { Encoder } from '../models/encoder.ts';
import type { Parameter, Run } from '../nn/parameter.ts';

/** Even visits that every node is counted with besides: the few tokens of a step that come to a deep node say little of how it splits. */
const pseudoCount = 64;

/**
 * Keeps a network's trees balanced while they are trained: after each step every inner node's bias moves a little towards an even split
 * of the tokens that come to it. Without it descent makes the upper nodes neurons that fire for all tokens or none, and most leaves are
 * never reached (docs/decisions.md). The layer itself stays the paper's.
 */
export class Balancer {
  private visited: Tensor[] = [];
  private readonly biases: Parameter[];
  private readonly shape: { trees: number; depth: number; leafWidth?: number };

  constructor(encoder: Encoder) {
    const { feedforward } = encoder.config;
    this.shape = feedforward.kind === 'fff' ? feedforward : { trees: 0, depth: 0 };
    this.biases = encoder.parameters.filter(({ name }) => name.endsWith('.linear_in.bias'));
  }

  /** A run that remembers where its tokens go, until the next one. */
  watch(run: Run): Run {
    this.visited = [];
    return {
      ...run,
      watchPaths: (input, visited) => {
        run.watchPaths?.(input, visited);
        this.visited.push(visited);
      },
    };
  }

  /** Moves the biases after the step of the run that was watched, before its scratch memory is used again. `rate`: how far a neuron's logit moves in a step if all its tokens go to one side. */
  async apply(rate: number): Promise<void> {
    const { trees, depth, leafWidth } = this.shape;
    if (trees === 0 || rate === 0) return;
    const neurons = neuronsPerTree(depth, leafWidth);
    for (const [layer, visited] of this.visited.entries()) {
      const { value } = this.biases[layer];
      const [nodes, bias] = await Promise.all([value.backend.readIntegers(visited), value.backend.read(value)]);
      // [trees, inner nodes]: how many tokens came, and how many more of them went right than left.
      const inner = 2 ** depth - 1;
      const visits = new Int32Array(trees * inner);
      const imbalance = new Int32Array(trees * inner);
      for (let walk = 0; walk * (depth + 1) < nodes.length; walk++) {
        const tree = walk % trees;
        for (let level = 0; level < depth; level++) {
          const at = walk * (depth + 1) + level;
          const node = tree * inner + nodes[at];
          visits[node]++;
          imbalance[node] += nodes[at + 1] === 2 * nodes[at] + 2 ? 1 : -1;
        }
      }
      const moved = bias.slice();
      visits.forEach((count, index) => {
        const [tree, node] = [Math.floor(index / inner), index % inner];
        moved[tree * neurons + node] -= (rate * imbalance[index]) / (count + pseudoCount);
      });
      value.backend.write(value, moved);
    }
  }
}
