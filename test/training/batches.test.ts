import { expect, test } from 'vitest';
import { ignoredLabel } from '../../src/models/language_model.ts';
import { drawNextTokenBatches, nextBatches, nextTokenBatches, possibleCuts } from '../../src/training/batches.ts';
import { SequenceStream } from '../../src/training/sequences.ts';
import { namedDocuments, testFolder, characterTokenizer as tokenizer, writeCorpus } from './corpora.ts';

const length = 32;
const masking = { maskId: 4, vocabularySize: 100 };
const shape = { count: 3, batch: 4, length };

async function open() {
  const paths = [writeCorpus(testFolder(), 'a.txt', namedDocuments('alpha', 120))];
  return SequenceStream.open({ paths, tokenizer, length, seed: 1, poolSize: 50, heldOutEvery: 0 });
}

/** The text that some batches were made of: what is predicted put back. */
const originals = (batches: { ids: Int32Array; labels: Int32Array }[]) =>
  batches.flatMap(({ ids, labels }) => Array.from(labels, (label, i) => (label === ignoredLabel ? ids[i] : label)));

const predicted = (labels: Int32Array) => labels.filter((label) => label !== ignoredLabel).length;

test('whole sequences, a quarter of each predicted', async () => {
  const batches = await nextBatches(await open(), shape, 7, masking);
  expect(batches.map(({ batch, length, ids }) => [batch, length, ids.length])).toEqual(Array(3).fill([4, 32, 128]));
  for (const { labels } of batches) for (let row = 0; row < 4; row++) expect(predicted(labels.subarray(row * 32, row * 32 + 32))).toBe(8);
});

test('varied batches hold the same text in sequences of several lengths, one to half of each predicted', async () => {
  const whole = await open();
  const varied = await open();
  const lengths = new Map<number, number>();
  const shares = { one: 0, half: 0 };
  for (let step = 0; step < 60; step++) {
    const batches = await nextBatches(varied, { ...shape, variedShare: 1 }, 7, masking);
    expect(originals(batches)).toEqual(originals(await nextBatches(whole, shape, 7, masking)));
    for (const { batch, length, labels } of batches) {
      expect(batch * length).toBe(128);
      lengths.set(length, (lengths.get(length) ?? 0) + 1);
      for (let from = 0; from < 128; from += length) {
        const count = predicted(labels.subarray(from, from + length));
        expect(count).toBeGreaterThanOrEqual(1);
        expect(count).toBeLessThanOrEqual(length / 2);
        if (count === 1) shares.one++;
        if (count === length / 2) shares.half++;
      }
    }
  }
  // 180 batches among three lengths, the shortest of 8 tokens.
  expect([...lengths.keys()].sort((a, b) => a - b)).toEqual([8, 16, 32]);
  expect(Math.min(...lengths.values())).toBeGreaterThan(35);
  expect(shares.one).toBeGreaterThan(100);
  expect(shares.half).toBeGreaterThan(100);
});

test('seed and place in the text alone decide, and the share is kept', async () => {
  const run = async (variedShare: number, seed = 7) => {
    const stream = await open();
    const forms: string[] = [];
    for (let step = 0; step < 100; step++)
      for (const { length, ids } of await nextBatches(stream, { ...shape, variedShare }, seed, masking)) forms.push(`${length}: ${ids}`);
    return forms;
  };
  const quarter = await run(0.25);
  expect(await run(0.25)).toEqual(quarter);
  expect(await run(0.25, 8)).not.toEqual(quarter);
  // Of 300 batches 75 are varied, 50 of them shortened: standard deviation 6.5.
  const shortened = quarter.filter((form) => !form.startsWith('32: ')).length;
  expect(shortened).toBeGreaterThan(25);
  expect(shortened).toBeLessThan(75);
});

test('sequences are halved as long as their pieces have 8 tokens', () => {
  expect(possibleCuts(128)).toEqual([1, 2, 4, 8, 16]);
  expect(possibleCuts(512)).toEqual([1, 2, 4, 8, 16, 32, 64]);
  expect(possibleCuts(100)).toEqual([1, 2, 4]);
  expect(possibleCuts(15)).toEqual([1]);
});

test('a length that cannot be halved stays, and no more than half of it is predicted', async () => {
  const paths = [writeCorpus(testFolder(), 'a.txt', namedDocuments('alpha', 120))];
  const stream = await SequenceStream.open({ paths, tokenizer, length: 15, seed: 1, poolSize: 50, heldOutEvery: 0 });
  const counts = new Set<number>();
  for (const { length, labels } of await nextBatches(stream, { count: 40, batch: 2, length: 15, variedShare: 1 }, 7, masking)) {
    expect(length).toBe(15);
    for (const from of [0, 15]) counts.add(predicted(labels.subarray(from, from + 15)));
  }
  expect([...counts].sort()).toEqual([1, 2, 3, 4, 5, 6, 7]);
});

test('each token is predicted of those before it, the last of a sequence too', async () => {
  const paths = [writeCorpus(testFolder(), 'a.txt', namedDocuments('alpha', 120))];
  const open = () => SequenceStream.open({ paths, tokenizer, length: 9, seed: 1, poolSize: 50, heldOutEvery: 0 });
  const drawn = new Int32Array(6 * 9);
  const [stream, again] = [await open(), await open()];
  for (let i = 0; i < 6; i++) await stream.next(drawn.subarray(i * 9, (i + 1) * 9));
  const batches = await drawNextTokenBatches(again, { count: 3, batch: 2, length: 8 });
  expect(batches.map(({ batch, length }) => [batch, length])).toEqual(Array(3).fill([2, 8]));
  const rows = batches.flatMap(({ ids, labels }) => [0, 1].map((row) => [...ids.slice(row * 8, row * 8 + 8), labels[row * 8 + 7]]));
  expect(rows.flat()).toEqual(Array.from(drawn));
  for (const { ids, labels } of batches) expect(Array.from(labels.subarray(0, 7))).toEqual(Array.from(ids.subarray(1, 8)));
  expect(nextTokenBatches(drawn, { batch: 4, length: 8 }).map(({ batch }) => batch)).toEqual([4, 2]);
});

test('documents begin with each sequence and with each token that says so', () => {
  const [{ ids, documents }] = nextTokenBatches(Int32Array.of(7, 8, 0, 9, 9, 0, 1, 2, 3, 0), { batch: 2, length: 4, begin: 0 });
  expect(Array.from(ids)).toEqual([7, 8, 0, 9, 0, 1, 2, 3]);
  expect(Array.from(documents ?? [])).toEqual([2, 2, 4]);
});
