/** Which way each token of a text takes through the trees of a model, and a picture of it. */
import type { Device } from '../backend/device.ts';
import { FailureError, InputError, overflow, quoted } from '../errors.ts';
import { wellFormed } from '../io/svg.ts';
import type { FeedforwardConfig } from '../models/config.ts';
import type { Encoder } from '../models/encoder.ts';
import { Session } from '../models/session.ts';
import { batchesByLength, batchOf, type EncodedText } from '../models/text_batches.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { LeafCounts, type LeafUse, watchLeaves } from '../training/leaf_use.ts';

export interface TokenPaths {
  tokens: string[];
  trees: number;
  depth: number;
  /** leaves[layer][token][tree], counted from the left, 0 to 2^depth - 1. The path to a leaf is its binary digits: 1 is right. */
  leaves: number[][][];
  /** How the tokens spread over the leaves of each layer. */
  layers: LeafUse[];
}

type Trees = Extract<FeedforwardConfig, { kind: 'fff' }>;

function treesOf({ config: { feedforward } }: Encoder): Trees {
  if (feedforward.kind === 'fff') return feedforward;
  const found = feedforward.kind === 'dense' ? 'dense feedforward layers, in which every token uses every neuron' : 'no feedforward layers';
  throw new InputError(`this model has ${found}: there are no paths, expected a model with trees`);
}

/** @throws InputError if the model has no trees or the text does not fit it. */
export async function pathsOf(encoder: Encoder, tokenizer: Tokenizer, device: Device, text: string): Promise<TokenPaths> {
  const feedforward = treesOf(encoder);
  const { maxPositionEmbeddings: positions } = encoder.config;
  const { ids, tokens, typeIds } = tokenizer.encode(text);
  if (ids.length > positions)
    throw new InputError(`the text has ${ids.length} tokens, but the model takes at most ${positions}: shorten it`);
  using session = new Session(device);
  const batch = { batch: 1, length: ids.length, ids: Int32Array.from(ids), typeIds: Int32Array.from(typeIds) };
  const [states, pathNodes] = await session.pass(async (context) => {
    const [{ output }, leaves] = await watchLeaves(context, (watched) => encoder.forward(watched, batch));
    return [await device.read(output), leaves];
  });
  if (!states.every(Number.isFinite))
    throw new FailureError(`the text (${quoted(text)}): the model's hidden states are not finite: ${overflow}`);
  const { trees, depth } = feedforward;
  const firstLeaf = 2 ** depth - 1;
  const leaves = pathNodes.map((layer) =>
    tokens.map((_, token) => Array.from({ length: trees }, (_, tree) => layer[token * trees + tree] - firstLeaf)),
  );
  const counts = new LeafCounts(feedforward);
  counts.add(pathNodes);
  return { tokens, trees, depth, leaves, layers: counts.uses };
}

/** Lines that are read before they are sorted by length. */
const linesAtOnce = 512;

/**
 * How the tokens of many texts, one a line, spread over the leaves of each layer; longer texts than the model takes are cut. `source` names
 * the lines in messages.
 * @throws InputError if the model has no trees, or the texts no tokens
 */
export async function leafUseOf(
  encoder: Encoder,
  tokenizer: Tokenizer,
  device: Device,
  { lines, source }: { lines: AsyncIterable<string>; source: string },
  onTexts?: (texts: number) => void,
): Promise<{ texts: number; tokens: number; layers: LeafUse[] }> {
  const counts = new LeafCounts(treesOf(encoder));
  using session = new Session(device);
  let [texts, tokens] = [0, 0];
  const count = async (some: readonly EncodedText[]) => {
    for (const members of batchesByLength(some)) {
      const batch = batchOf(some, members);
      const [, leaves] = await session.pass((context) => watchLeaves(context, (watched) => encoder.forward(watched, batch)));
      counts.add(leaves, batch.mask);
      tokens += batch.mask.reduce((sum, present) => sum + present, 0);
    }
    texts += some.length;
    onTexts?.(texts);
  };
  let waiting: EncodedText[] = [];
  for await (const line of lines) {
    if (line.trim() === '') continue;
    waiting.push(tokenizer.encode(line, { maxLength: encoder.config.maxPositionEmbeddings }));
    if (waiting.length < linesAtOnce) continue;
    await count(waiting);
    waiting = [];
  }
  await count(waiting);
  if (tokens === 0) throw new InputError(`${source}: has no tokens to count, expected one text a line`);
  return { texts, tokens, layers: counts.uses };
}

const panel = { width: 1000, height: 120, left: 90, right: 20, gap: 34, top: 96 };

/** A picture (SVG): for each layer its tree from the root at the top to the leaves at the bottom, with the path of each token in a color of its own. */
export function drawPaths({ tokens, trees, depth, leaves, layers }: TokenPaths, title: string): string {
  const words = tokens.map((token, i) => ({ token, color: `hsl(${Math.round((360 * i) / tokens.length)} 70% 42%)` }));
  const perTree = (panel.width - (trees - 1) * 12) / trees;
  const parts: string[] = [];
  let x = panel.left;
  let y = 58;
  for (const { token, color } of words) {
    const wide = 8.5 * token.length + 14;
    if (x + wide > panel.left + panel.width) {
      x = panel.left;
      y += 20;
    }
    parts.push(`<text x="${x}" y="${y}" fill="${color}">${escapeText(token)}</text>`);
    x += wide;
  }
  const top = y - 58 + panel.top;
  for (const [layer, ofLayer] of leaves.entries()) {
    const base = top + layer * (panel.height + panel.gap);
    const { used } = layers[layer];
    parts.push(`<text x="10" y="${base + 14}">layer ${layer + 1}</text>`);
    parts.push(`<text x="10" y="${base + 32}" class="small">${used} of ${trees * 2 ** depth}</text>`);
    parts.push(`<text x="10" y="${base + 46}" class="small">${trees * 2 ** depth === 1 ? 'leaf' : 'leaves'}</text>`);
    for (let tree = 0; tree < trees; tree++) {
      const start = panel.left + tree * (perTree + 12);
      parts.push(`<rect x="${start}" y="${base}" width="${perTree.toFixed(1)}" height="${panel.height}" class="panel"/>`);
      for (const [t, { token, color }] of words.entries()) {
        const leaf = ofLayer[t][tree];
        const points = Array.from({ length: depth + 1 }, (_, level) => {
          const node = Math.floor(leaf / 2 ** (depth - level));
          const across = start + ((node + 0.5) / 2 ** level) * perTree;
          const down = base + 6 + (depth === 0 ? 0 : (level / depth) * (panel.height - 12));
          return `${across.toFixed(1)},${down.toFixed(1)}`;
        });
        const [endX, endY] = (points.at(-1) as string).split(',');
        const label = `<title>${escapeText(token)}: leaf ${leaf} of tree ${tree + 1}</title>`;
        parts.push(`<polyline points="${points.join(' ')}" stroke="${color}">${label}</polyline>`);
        parts.push(`<circle cx="${endX}" cy="${endY}" r="3.5" fill="${color}">${label}</circle>`);
      }
    }
  }
  const width = panel.left + panel.width + panel.right;
  const height = top + leaves.length * (panel.height + panel.gap);
  return wellFormed(`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="14">
<style>.small{font-size:11px;fill:#666}.panel{fill:#f6f6f8;stroke:#ccc}polyline{fill:none;stroke-width:1.4;stroke-opacity:.75}</style>
<rect width="${width}" height="${height}" fill="#fff"/>
<text x="${panel.left}" y="28" font-size="17">${escapeText(title)}</text>
${parts.join('\n')}
</svg>
`);
}

const escapeText = (text: string) =>
  text.replace(/[&<>"]/g, (character) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[character] as string);
