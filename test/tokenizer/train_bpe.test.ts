import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { InputError } from '../../src/errors.ts';
import { Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import { trainBytePairs } from '../../src/tokenizer/train_bpe.ts';

interface Trained {
  vocabularySize: number;
  tokens: string[];
  json: { model: object };
  ids: number[][];
}
const fixture = new URL('../fixtures/byte-pairs/trained.json', import.meta.url);
const { texts, others, trained } = JSON.parse(readFileSync(fixture, 'utf8')) as { texts: string[]; others: string[]; trained: Trained[] };

describe.each(trained)("agrees with Hugging Face's tokenizers: $vocabularySize tokens", ({ vocabularySize, tokens, json, ids }) => {
  test('the vocabulary, the merges and the rest of the file', async () => {
    const own = await trainBytePairs(texts, { vocabularySize });
    expect(
      Object.entries(own.model.vocab)
        .toSorted((a, b) => a[1] - b[1])
        .map(([token]) => token),
    ).toEqual(tokens);
    expect({ ...own, model: { ...own.model, vocab: {} } }).toEqual(json);
  });

  test('ids of texts, and the way back to every byte', async () => {
    const tokenizer = Tokenizer.fromJson(await trainBytePairs(texts.toReversed(), { vocabularySize }));
    [...texts, ...others].forEach((text, index) => {
      expect(tokenizer.encode(text).ids).toEqual(ids[index]);
      expect(tokenizer.decode(ids[index])).toBe(text);
    });
  });
});

test('a small text yields fewer tokens than asked for', async () => {
  const { model } = await trainBytePairs(['ab ab'], { vocabularySize: 1000 });
  expect(model.merges).toEqual([
    ['a', 'b'],
    ['Ġ', 'ab'],
  ]);
  expect(Object.keys(model.vocab)).toHaveLength(1 + 256 + 2);
});

test('reports what it does, and stops when it is told to', async () => {
  const reports: unknown[] = [];
  await trainBytePairs(['abc '.repeat(300_000)], { vocabularySize: 300, onProgress: (report) => reports.push(report) });
  expect(reports.at(0)).toEqual({ phase: 'counting', done: 1_200_000 });
  expect(reports.at(-1)).toMatchObject({ phase: 'merging', done: 260, total: 260 });
  const signal = AbortSignal.abort(new Error('stop'));
  await expect(trainBytePairs(['a text'], { vocabularySize: 300, signal })).rejects.toThrow('stop');
});

test.each([
  [{ vocabularySize: 256 }, 'vocabulary size 256: expected a whole number from 257, for every byte has a token, to 1048576'],
  [{ vocabularySize: 300.5 }, 'vocabulary size 300.5: expected a whole number'],
  [{ vocabularySize: 300, endOfText: 'e' }, 'endOfText "e": expected a text of several characters, <|endoftext|> say'],
])('refuses %j', async (options, message) => {
  await expect(trainBytePairs(['text'], options)).rejects.toThrow(InputError);
  await expect(trainBytePairs(['text'], options)).rejects.toThrow(message);
});

test('refuses a corpus without text', async () => {
  await expect(trainBytePairs(['', ''], { vocabularySize: 300 })).rejects.toThrow('the corpus holds no text');
});
