import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { InputError } from '../../src/errors.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import type { RankedDocument, TextRankingPipeline } from '../../src/pipelines/text_ranking.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyClassifier, writeTinyModel } from '../tiny_model.ts';

const model = fileURLToPath(new URL('../fixtures/interchange/models/cross-encoder', import.meta.url));
const figures = JSON.parse(readFileSync(new URL('../fixtures/interchange/answers.json', import.meta.url), 'utf8')).rank;
const { query, documents } = figures as { query: string; documents: string[] };
const device = new ReferenceDevice();
const notices: string[] = [];
let rank: TextRankingPipeline;
beforeAll(async () => {
  rank = await pipeline('text-ranking', model, { device, notice: (line) => notices.push(line) });
});

const close = (ranked: readonly RankedDocument[], expected: readonly RankedDocument[]) =>
  expect(ranked).toEqual(expected.map((one) => ({ ...one, score: expect.closeTo(one.score, 5) })));

test("as sentence-transformers' CrossEncoder ranks them, those that are cut too", async () => {
  close(await rank(query, documents), figures.answer);
  expect(notices).toEqual(['1 of 6 texts has more than 64 tokens: the end was left out']);
});

test('the best few, of an array and of a stream alike', async () => {
  async function* stream() {
    yield* documents;
  }
  const all = await rank(query, documents);
  expect(await rank(query, documents, { top_k: 2 })).toEqual(all.slice(0, 2));
  close(await rank(query, stream(), { top_k: 2 }), all.slice(0, 2));
  close(await rank(query, stream()), all);
  expect(await rank(query, [])).toEqual([]);
});

test('equal documents keep their order', async () => {
  const same = ['a dog', 'a cat', 'a dog', 'a cat', 'a dog'];
  async function* stream() {
    yield* same;
  }
  for (const ranked of [await rank(query, same), await rank(query, stream())])
    for (const text of ['a dog', 'a cat']) {
      const ids = ranked.filter((one) => one.text === text).map(({ corpus_id }) => corpus_id);
      expect(ids).toEqual([...ids].sort());
    }
});

test('refused: what is no text, and a count that is none', async () => {
  await expect(rank(5 as unknown as string, documents)).rejects.toThrow(new InputError('query: got 5, expected a string'));
  await expect(rank(query, 'a dog' as unknown as string[])).rejects.toThrow(
    'documents: got "a dog", expected an array or a stream of strings',
  );
  await expect(rank(query, ['a', null as unknown as string])).rejects.toThrow('documents: found null, expected strings');
  await expect(rank(query, documents, { top_k: 0 })).rejects.toThrow('top_k: got 0, expected a whole number from 1');
  async function* stream() {
    yield* ['a', 5 as unknown as string];
  }
  await expect(rank(query, stream())).rejects.toThrow(InputError);
  close(await rank(query, documents), figures.answer);
});

test('stopped by a signal', async () => {
  const stop = new AbortController();
  stop.abort(new Error('enough'));
  await expect(rank(query, documents, { signal: stop.signal })).rejects.toThrow('enough');
});

test('a classifier of several classes is refused', async () => {
  const folder = temporaryFolder();
  await writeTinyModel(join(folder, 'base'));
  await writeTinyClassifier(join(folder, 'base'), join(folder, 'three'));
  await expect(pipeline('text-ranking', join(folder, 'three'), { device })).rejects.toThrow(
    /its head has 3 outputs, expected one, the score of a pair/,
  );
});
