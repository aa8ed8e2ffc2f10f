import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import { createDevice } from '../../src/backend/create.ts';
import type { Device } from '../../src/backend/device.ts';
import { encoderOf, loadModel, type Model } from '../../src/models/checkpoint.ts';
import { batchOf } from '../../src/models/text_batches.ts';
import { loadTokenizer } from '../../src/tokenizer/tokenizer_config.ts';

/** Models that transformers saved, and what it says of them: make.py there. */
const fixtures = fileURLToPath(new URL('../fixtures/families', import.meta.url));
const folders = readdirSync(fixtures).filter((name) => !name.includes('.'));

interface Expected {
  texts: {
    text: string;
    ids: number[];
    offsets: [number, number][];
    decoded: string;
    /** Of a masked language model every 41st of each token's, of a classifier all. */
    logits?: number[][] | number[];
    /** Of an encoder, every 7th of each token. */
    hidden?: number[][];
  }[];
  pair?: { text: string; text_pair: string; ids: number[] };
}

const expectedOf = (folder: string): Expected => JSON.parse(readFileSync(`${fixtures}/${folder}/expected.json`, 'utf8'));

/** What a model says of texts, padded to one length, as expected.json has it. */
async function answers(model: Model, device: Device, texts: readonly { ids: number[] }[]): Promise<number[][][]> {
  using arena = new Arena(device);
  const context = { device, arena, training: false };
  const encoded = texts.map(({ ids }) => ({ ids, typeIds: ids.map(() => 0) }));
  const length = Math.max(...texts.map(({ ids }) => ids.length));
  const batch = batchOf(
    encoded,
    encoded.map((_, i) => i),
  );
  expect(batch.length).toBe(length);
  const tensor = model.task === 'encoder' ? encoderOf(model).forward(context, batch).output : model.logits(context, batch);
  const values = await device.read(tensor);
  const width = tensor.shape[1];
  const step = { encoder: 7, 'masked-lm': 41, 'sequence-classification': 1 }[model.task];
  const row = (index: number) => Array.from(values.subarray(index * width, (index + 1) * width)).filter((_, i) => i % step === 0);
  if (model.task === 'sequence-classification') return texts.map((_, i) => [row(i)]);
  return texts.map(({ ids }, i) => ids.map((_, position) => row(i * length + position)));
}

describe.each(folders)('%s', (folder) => {
  const expected = expectedOf(folder);

  test.each(['reference', 'native', 'wasm'] as const)('%s: what transformers answers', async (kind) => {
    using device = await createDevice({ name: kind });
    using model = await loadModel(`${fixtures}/${folder}`, device);
    const own = (await answers(model, device, expected.texts)).flat(2);
    const theirs = expected.texts.flatMap(({ logits, hidden }) => (logits ?? hidden ?? []).flat());
    expect(own).toHaveLength(theirs.length);
    const largest = Math.max(...theirs.map(Math.abs));
    for (const [i, value] of own.entries()) expect(Math.abs(value - theirs[i])).toBeLessThan(1e-5 * largest);
  });

  test('tokens, offsets and decoded texts as transformers has them', async () => {
    const tokenizer = await loadTokenizer(`${fixtures}/${folder}`);
    for (const { text, ids, offsets, decoded } of expected.texts) {
      const encoding = tokenizer.encode(text);
      expect(encoding.ids, text).toEqual(ids);
      expect(encoding.offsets, text).toEqual(offsets);
      expect(tokenizer.decode(ids, { skipSpecialTokens: true })).toBe(decoded);
    }
    if (!expected.pair) return;
    const { text, text_pair: pair, ids } = expected.pair;
    expect(tokenizer.encode(text, { pair }).ids).toEqual(ids);
  });
});
