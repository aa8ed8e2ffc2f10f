/** How tokens spread over the leaves of a model's trees, as commands print it. */
import type { LeafUse } from '../training/leaf_use.ts';
import { table } from './commands/bench_report.ts';

/** A row for each layer. As many bits as log2 of a tree's leaves would be: evenly. */
export function leafUseTable(layers: readonly LeafUse[]): string {
  const rows = layers.map(({ leaves, used, entropy, mostCrowded }, layer) => [
    `layer ${layer + 1}`,
    `${used} of ${leaves}`,
    entropy.toFixed(1),
    `${(100 * mostCrowded).toFixed(1)} %`,
  ]);
  return table([['', 'leaves used', 'entropy, bits', 'of tokens in the most crowded'], ...rows]);
}
