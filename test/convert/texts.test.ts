import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { heldOutTexts, type TextOptions, TextStream, type TextsOfOneLength } from '../../src/convert/texts.ts';
import { Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import { temporaryFolder } from '../temporary.ts';
import { generatedSentences, writeTinyModel } from '../tiny_model.ts';
import { writeCorpus } from '../training/corpora.ts';

const folder = temporaryFolder();
let options: TextOptions;
beforeAll(async () => {
  await writeTinyModel(folder);
  const tokenizer = await Tokenizer.load(join(folder, 'tokenizer.json'));
  // Documents of two paragraphs of four sentences; every third begins each sentence in a way that only held-out texts may show.
  const capital = (text: string) => text.replace(/^./, (letter) => letter.toUpperCase());
  const sentences = generatedSentences().map((sentence) => capital(sentence.replace(' .', '.')));
  const documents = Array.from({ length: 27 }, (_, document) =>
    [0, 1].map((paragraph) => {
      const first = document * 8 + paragraph * 4;
      const text = sentences.slice(first, first + 4).join(' ');
      return document % 3 === 2 ? text.replaceAll(/(?<=^|\. )/g, 'Apples apples ') : text;
    }),
  );
  const paths = [writeCorpus(folder, 'a.txt', documents), writeCorpus(folder, 'b.txt.gz', documents.slice(0, 18))];
  options = { paths, tokenizer, length: 24, batchTokens: 64, seed: 3, heldOutEvery: 3 };
});

/** One that puts texts between [CLS] and [SEP], the second of a pair of type 1. */
async function bertTokenizer(): Promise<Tokenizer> {
  const json = JSON.parse(readFileSync(join(folder, 'tokenizer.json'), 'utf8'));
  const { '[CLS]': cls, '[SEP]': sep } = json.model.vocab;
  json.post_processor = { type: 'BertProcessing', sep: ['[SEP]', sep], cls: ['[CLS]', cls] };
  writeFileSync(join(folder, 'bert.json'), JSON.stringify(json));
  return Tokenizer.load(join(folder, 'bert.json'));
}

const shapesOf = ({ batch, length }: TextsOfOneLength) => [batch, length];

test('batches of one length each, in multiples of four tokens, of sentences and of paragraphs', async () => {
  const stream = await TextStream.open(options);
  const lengths = new Set<number>();
  for (let i = 0; i < 40; i++) {
    const { batch, length, ids } = await stream.next();
    expect(ids.length).toBe(batch * length);
    expect([length % 4, Math.round(64 / length)]).toEqual([0, batch]);
    expect(length).toBeLessThanOrEqual(24);
    lengths.add(length);
    const text = options.tokenizer.decode(ids);
    expect(text).not.toContain('apples apples');
  }
  expect(lengths.size).toBeGreaterThan(1);
  await stream.close();
});

test('texts are lower-cased if the tokenizer is told to, pairs too', async () => {
  // The tokenizer of the tests lower-cases by itself: one that does not knows no capital.
  const json = JSON.parse(readFileSync(join(folder, 'tokenizer.json'), 'utf8'));
  writeFileSync(join(folder, 'cased.json'), JSON.stringify({ ...json, normalizer: null }));
  const cased = await Tokenizer.load(join(folder, 'cased.json'));
  const unknown = async (tokenizer: Tokenizer) => {
    const texts = await heldOutTexts({ ...options, tokenizer, count: 20 });
    return texts.some(({ ids }) => ids.includes(json.model.vocab['[UNK]']));
  };
  expect([await unknown(cased), await unknown(cased.lowerCased())]).toEqual([true, false]);
});

test('a stream that is resumed gives what it would have given', async () => {
  const stream = await TextStream.open(options);
  for (let i = 0; i < 7; i++) await stream.next();
  await stream.prefetch();
  const state = structuredClone(stream.state);
  const expected = [];
  for (let i = 0; i < 25; i++) expected.push(await stream.next());
  await stream.close();
  const resumed = await TextStream.open(options, state);
  for (const batch of expected) expect(await resumed.next()).toEqual(batch);
  await resumed.close();
  const other = await TextStream.open({ ...options, seed: 4 });
  for (let i = 0; i < 7; i++) await other.next();
  expect(await other.next()).not.toEqual(expected[0]);
  await other.close();
});

test('texts for masked language models are masked, the same ones each time', async () => {
  const { maskId, vocabularySize } = options.tokenizer;
  const masking = { maskId: maskId as number, vocabularySize, share: 0.25 };
  const [plain, masked, again] = await Promise.all(
    [options, { ...options, masking }, { ...options, masking }].map((of) => TextStream.open(of)),
  );
  let [changed, all] = [0, 0];
  for (let i = 0; i < 20; i++) {
    const [before, after] = [await plain.next(), await masked.next()];
    expect(await again.next()).toEqual(after);
    after.ids.forEach((id, at) => {
      if (id !== before.ids[at]) changed++;
    });
    expect(after.ids.includes(masking.maskId)).toBe(true);
    all += after.ids.length;
  }
  // Nine tenths of a quarter, less the random tokens that are the right ones.
  expect(changed / all).toBeGreaterThan(0.18);
  expect(changed / all).toBeLessThan(0.26);
  for (const stream of [plain, masked, again]) await stream.close();
  const [held] = await heldOutTexts({ ...options, masking, count: 12 });
  expect(held.ids.includes(masking.maskId)).toBe(true);
});

test('held-out texts are those of documents that are not trained on, of every file', async () => {
  const batches = await heldOutTexts({ ...options, count: 12 });
  expect(batches.reduce((sum, { batch }) => sum + batch, 0)).toBe(12);
  expect(batches.map(shapesOf)).toEqual([...batches.map(shapesOf)].sort(([, a], [, b]) => a - b));
  const texts = batches.flatMap(({ batch, length, ids }) =>
    Array.from({ length: batch }, (_, row) => options.tokenizer.decode(ids.subarray(row * length, (row + 1) * length))),
  );
  for (const text of texts) expect(text).toContain('apples apples');
});

test('texts for models with token types are read in pairs too, of neighboring sentences', async () => {
  const tokenizer = await bertTokenizer();
  const { sepId } = tokenizer;
  const stream = await TextStream.open({ ...options, tokenizer, pairs: true });
  const [pairs, singles]: [string[], number[]] = [[], []];
  for (let i = 0; i < 60; i++) {
    const { batch, length, ids, typeIds } = await stream.next();
    for (let row = 0; row < batch; row++) {
      const own = Array.from(ids.subarray(row * length, (row + 1) * length));
      const types = Array.from(typeIds!.subarray(row * length, (row + 1) * length));
      const second = own.indexOf(sepId as number) + 1;
      expect(types).toEqual(own.map((_, at) => (second > 0 && at >= second ? 1 : 0)));
      if (!types.includes(1)) singles.push(length);
      else pairs.push(tokenizer.decode(own.slice(1, second - 1)), tokenizer.decode(own.slice(second, -1)));
    }
  }
  await stream.close();
  expect(pairs.length / 2 / (pairs.length / 2 + singles.length)).toBeGreaterThan(0.1);
  // Whole ones, as the tokenizer makes them.
  const [first, other] = pairs.slice(pairs.findIndex((text, i) => i % 2 === 0 && /\.$/.test(text) && /\.$/.test(pairs[i + 1])));
  const text = readFileSync(options.paths[0], 'utf8').toLowerCase().replaceAll('.', ' .');
  expect(text).toContain(`${first.replace(/ ?\.$/, ' .')} ${other.replace(/ ?\.$/, ' .')}`);
  expect(tokenizer.encode(first, { pair: other }).typeIds).toContain(1);
});
