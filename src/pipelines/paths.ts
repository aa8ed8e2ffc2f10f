/** Which way each token of a text takes through the trees of a model, and a picture of it. */
import { Arena } from '../backend/arena.ts';
import type { Backend } from '../backend/backend.ts';
import { InputError } from '../errors.ts';
import type { Encoder } from '../models/encoder.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { entropyOf, watchLeaves } from '../training/paths.ts';

export interface TokenPaths {
  tokens: string[];
  trees: number;
  depth: number;
  /** leaves[layer][token][tree], counted from the left, 0 to 2^depth - 1. The path to a leaf is its binary digits: 1 is right. */
  leaves: number[][][];
}

/** @throws InputError if the model has no trees or the text does not fit it. */
export async function pathsOf(encoder: Encoder, tokenizer: Tokenizer, backend: Backend, text: string): Promise<TokenPaths> {
  const { feedforward, positions } = encoder.config;
  if (feedforward.kind !== 'fff') {
    const found =
      feedforward.kind === 'dense' ? 'dense feedforward layers, in which every token uses every neuron' : 'no feedforward layers';
    throw new InputError(`this model has ${found}: there are no paths, expected a model with trees`);
  }
  const { ids, tokens, typeIds } = tokenizer.encode(text);
  if (ids.length > positions)
    throw new InputError(`the text has ${ids.length} tokens, but the model takes at most ${positions}: shorten it`);
  using arena = new Arena(backend);
  const batch = { batch: 1, length: ids.length, ids: Int32Array.from(ids), typeIds: Int32Array.from(typeIds) };
  const [, visited] = await watchLeaves({ backend, arena, training: false }, (run) => encoder.forward(run, batch));
  const { trees, depth } = feedforward;
  const firstLeaf = 2 ** depth - 1;
  const leaves = visited.map((layer) =>
    tokens.map((_, token) => Array.from({ length: trees }, (_, tree) => layer[token * trees + tree] - firstLeaf)),
  );
  return { tokens, trees, depth, leaves };
}

/**
 * How the tokens spread over the leaves of a layer's trees: leaves that at least one reaches, the share of the most crowded one, and the
 * entropy of their distribution over a tree's leaves, bits, the mean over the trees (as many as the tree is deep: evenly).
 */
export function spreadOf(leaves: readonly (readonly number[])[]): { used: number; mostCrowded: number; entropy: number } {
  const trees = leaves[0]?.length ?? 0;
  const counts = Array.from({ length: trees }, (_, tree) => {
    const ofTree = new Map<number, number>();
    for (const token of leaves) ofTree.set(token[tree], (ofTree.get(token[tree]) ?? 0) + 1);
    return [...ofTree.values()];
  });
  return {
    used: counts.reduce((sum, { length }) => sum + length, 0),
    mostCrowded: Math.max(...counts.flat()) / leaves.length,
    entropy: counts.reduce((sum, ofTree) => sum + entropyOf(ofTree), 0) / trees,
  };
}

const panel = { width: 1000, height: 120, left: 90, right: 20, gap: 34, top: 96 };

/** A picture (SVG): for each layer its tree from the root at the top to the leaves at the bottom, with the path of each token in a colour of its own. */
export function drawPaths({ tokens, trees, depth, leaves }: TokenPaths, title: string): string {
  const words = tokens.map((token, i) => ({ token, colour: `hsl(${Math.round((360 * i) / tokens.length)} 70% 42%)` }));
  const perTree = (panel.width - (trees - 1) * 12) / trees;
  const parts: string[] = [];
  let x = panel.left;
  let y = 58;
  for (const { token, colour } of words) {
    const wide = 8.5 * token.length + 14;
    if (x + wide > panel.left + panel.width) {
      x = panel.left;
      y += 20;
    }
    parts.push(`<text x="${x}" y="${y}" fill="${colour}">${escapeText(token)}</text>`);
    x += wide;
  }
  const top = y - 58 + panel.top;
  for (const [layer, ofLayer] of leaves.entries()) {
    const base = top + layer * (panel.height + panel.gap);
    const { used } = spreadOf(ofLayer);
    parts.push(`<text x="10" y="${base + 14}">layer ${layer + 1}</text>`);
    parts.push(`<text x="10" y="${base + 32}" class="small">${used} of ${trees * 2 ** depth}</text>`);
    parts.push(`<text x="10" y="${base + 46}" class="small">${trees * 2 ** depth === 1 ? 'leaf' : 'leaves'}</text>`);
    for (let tree = 0; tree < trees; tree++) {
      const start = panel.left + tree * (perTree + 12);
      parts.push(`<rect x="${start}" y="${base}" width="${perTree.toFixed(1)}" height="${panel.height}" class="panel"/>`);
      for (const [t, { token, colour }] of words.entries()) {
        const leaf = ofLayer[t][tree];
        const points = Array.from({ length: depth + 1 }, (_, level) => {
          const node = Math.floor(leaf / 2 ** (depth - level));
          const across = start + ((node + 0.5) / 2 ** level) * perTree;
          const down = base + 6 + (depth === 0 ? 0 : (level / depth) * (panel.height - 12));
          return `${across.toFixed(1)},${down.toFixed(1)}`;
        });
        const [endX, endY] = (points.at(-1) as string).split(',');
        const label = `<title>${escapeText(token)}: leaf ${leaf} of tree ${tree + 1}</title>`;
        parts.push(`<polyline points="${points.join(' ')}" stroke="${colour}">${label}</polyline>`);
        parts.push(`<circle cx="${endX}" cy="${endY}" r="3.5" fill="${colour}">${label}</circle>`);
      }
    }
  }
  const width = panel.left + panel.width + panel.right;
  const height = top + leaves.length * (panel.height + panel.gap);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="14">
<style>.small{font-size:11px;fill:#666}.panel{fill:#f6f6f8;stroke:#ccc}polyline{fill:none;stroke-width:1.4;stroke-opacity:.75}</style>
<rect width="${width}" height="${height}" fill="#fff"/>
<text x="${panel.left}" y="28" font-size="17">${escapeText(title)}</text>
${parts.join('\n')}
</svg>
`;
}

const escapeText = (text: string) =>
  text.replace(/[&<>"]/g, (character) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[character] as string);
