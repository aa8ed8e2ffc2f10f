/** Where tokens go in a model's trees, and how evenly they spread over the leaves. */
import * as v from 'valibot';
import type { Tensor } from '../backend/tensor.ts';
import { countSchema } from '../io/schemas.ts';
import type { FeedforwardConfig } from '../models/config.ts';
import type { Context } from '../nn/parameter.ts';

/** Where tokens went: for each fast feedforward layer, the leaf of each token in each tree, [tokens trees]. */
export type Leaves = readonly Int32Array[];

/** Runs a forward pass and tells where its tokens went. */
export async function watchLeaves<Result>(
  context: Context,
  forward: (context: Context) => Result | Promise<Result>,
): Promise<[Result, Leaves]> {
  const copies: Tensor[] = [];
  try {
    const watchPaths = (_: Tensor, pathNodes: Tensor) => {
      const copy = context.device.tensor('visited nodes', pathNodes.shape, 'i32');
      copies.push(copy);
      context.device.copy({ input: pathNodes, output: copy });
    };
    const result = await forward({ ...context, watchPaths });
    const leaves: Int32Array[] = [];
    for (const copy of copies) {
      const pathNodes = await context.device.readIntegers(copy);
      const levels = copy.shape[2];
      leaves.push(Int32Array.from({ length: pathNodes.length / levels }, (_, walk) => pathNodes[walk * levels + levels - 1]));
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

export const leafUseSchema = v.object({
  /** Leaves of all the layer's trees, and how many of them at least one token reached. */
  leaves: countSchema,
  used: countSchema,
  /** Of the tokens' distribution over a tree's leaves, bits, the mean over the trees; the depth is the most that there can be. */
  entropy: v.number(),
  /** Of the tokens, the share in the leaf that most of them reached. */
  mostCrowded: v.number(),
});

/** How a layer's tokens spread over the leaves of its trees. */
export type LeafUse = v.InferOutput<typeof leafUseSchema>;

/** Counts how many tokens reach each leaf of each layer's trees. */
export class LeafCounts {
  private readonly layers: Int32Array[] = [];
  private readonly trees: number;
  private readonly depth: number;

  constructor(feedforward: FeedforwardConfig) {
    const { trees, depth } = feedforward.kind === 'fff' ? feedforward : { trees: 0, depth: 0 };
    this.trees = trees;
    this.depth = depth;
  }

  /** `mask`: of the tokens, those that count; 0 is padding. All of them if absent. */
  add(leaves: Leaves, mask?: Int32Array): void {
    const { trees, depth } = this;
    for (const [layer, reached] of leaves.entries()) {
      this.layers[layer] ??= new Int32Array(trees * 2 ** depth);
      const counts = this.layers[layer];
      reached.forEach((leaf, walk) => {
        if (mask?.[Math.floor(walk / trees)] === 0) return;
        counts[(walk % trees) * 2 ** depth + leaf - (2 ** depth - 1)]++;
      });
    }
  }

  /** Of each layer; none without trees. */
  get uses(): LeafUse[] {
    const { trees, depth } = this;
    return this.layers.map((counts) => {
      const perTree = Array.from({ length: trees }, (_, tree) => counts.subarray(tree * 2 ** depth, (tree + 1) * 2 ** depth));
      const tokens = perTree[0].reduce((sum, count) => sum + count, 0);
      return {
        leaves: counts.length,
        used: counts.filter((count) => count > 0).length,
        entropy: perTree.reduce((sum, ofTree) => sum + entropyOf(ofTree), 0) / trees,
        mostCrowded: tokens > 0 ? counts.reduce((most, count) => Math.max(most, count), 0) / tokens : 0,
      };
    });
  }
}

/** Of a distribution given by counts, bits. */
function entropyOf(counts: Int32Array): number {
  const total = counts.reduce((sum, count) => sum + count, 0);
  return counts.reduce((sum, count) => (count > 0 ? sum - (count / total) * Math.log2(count / total) : sum), 0);
}

/** Leaf use in a few words, a layer after the other: '10.8 0.3 of 11 bits, 2016 5 of 2048 leaves, 0.2 95.1 % in the most crowded'. Empty without trees. */
export function describeLeafUse(layers: readonly LeafUse[], feedforward: FeedforwardConfig): string {
  if (feedforward.kind !== 'fff' || layers.length === 0) return '';
  const bits = layers.map(({ entropy }) => entropy.toFixed(1)).join(' ');
  const crowded = layers.map(({ mostCrowded }) => (100 * mostCrowded).toFixed(1)).join(' ');
  return `${bits} of ${feedforward.depth} bits, ${layers.map(({ used }) => used).join(' ')} of ${layers[0].leaves} leaves, ${crowded} % in the most crowded`;
}

/** What commands with a --balance recommend. */
export const spreadingAdvice = 'a higher --balance spreads them';

/** Says once, while a training runs, when a layer's tokens come to spread over less than a quarter of the bits that its leaves could tell apart. */
export class CollapseNotice {
  private told = false;

  constructor(
    private readonly feedforward: FeedforwardConfig,
    private readonly notice: ((line: string) => void) | undefined,
    private readonly advice?: string,
  ) {}

  /** `layers`: as just measured. */
  check(layers: readonly LeafUse[]): void {
    const { feedforward, told, notice, advice } = this;
    if (feedforward.kind !== 'fff') return;
    const { depth } = feedforward;
    const collapsed = layers.flatMap(({ entropy }, layer) => (entropy < depth / 4 ? [layer + 1] : []));
    this.told = collapsed.length > 0;
    if (told || collapsed.length === 0) return;
    const which = `${collapsed.length === 1 ? 'layer' : 'layers'} ${collapsed.join(', ')} of ${layers.length}`;
    notice?.(
      `trees hardly branch: ${which} below a quarter of ${depth} bits (${describeLeafUse(layers, feedforward)}); most neurons are not reached${advice ? `; ${advice}` : ''}`,
    );
  }
}
