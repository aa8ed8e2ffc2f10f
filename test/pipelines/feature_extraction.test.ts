import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { createDevice } from '../../src/backend/create.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { InputError } from '../../src/errors.ts';
import type { FeatureExtractionPipeline } from '../../src/pipelines/feature_extraction.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import { miniLm, miniLmGolden, miniLmGoldenMissing } from '../real_model.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyModel } from '../tiny_model.ts';

const folder = join(temporaryFolder(), 'model');
const device = new ReferenceDevice();
const notices: string[] = [];
const texts = ['the cat sees a long road .', 'a dog', 'my sister likes the letter and the old man carries green apples .', ''];
let extract: FeatureExtractionPipeline;
beforeAll(async () => {
  await writeTinyModel(folder);
  extract = await pipeline('feature-extraction', folder, { device, notice: (message) => notices.push(message) });
});

const close = (actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number) => {
  expect(actual.length).toBe(expected.length);
  for (let i = 0; i < expected.length; i++) expect(Math.abs(actual[i] - expected[i])).toBeLessThanOrEqual(tolerance);
};

test('a text of which the tokenizer makes no token is refused by its number, alone and among others', async () => {
  const bare = join(temporaryFolder(), 'bare');
  cpSync(folder, bare, { recursive: true });
  const json = JSON.parse(readFileSync(join(bare, 'tokenizer.json'), 'utf8'));
  writeFileSync(join(bare, 'tokenizer.json'), JSON.stringify({ ...json, post_processor: null }));
  const embed = await pipeline('feature-extraction', bare, { device });
  await expect(embed('')).rejects.toThrow('the text: the tokenizer makes no token of it');
  await expect(embed(['the cat', ''])).rejects.toThrow('text 2: the tokenizer makes no token of it');
  expect((await embed('the cat', { pooling: 'mean' })).dims).toEqual([1, 16]);
  await embed.dispose();
});

test("transformers.js's names of poolings are taken, and its name of the task", async () => {
  const embed = await pipeline('embeddings', folder, { device, notice: () => {} });
  for (const [theirs, ours] of [
    ['first_token', 'cls'],
    ['last_token', 'lasttoken'],
    ['eos', 'lasttoken'],
  ] as const)
    expect((await embed('a cat', { pooling: theirs })).data).toEqual((await embed('a cat', { pooling: ours })).data);
  await embed.dispose();
});

test('options that are not known are said to be so', async () => {
  const said: string[] = [];
  const options = { device, notice: (message: string) => void said.push(message), local_files_only: true, cache_dir: '/x' };
  await (await pipeline('feature-extraction', folder, options)).dispose();
  expect(said).toEqual([
    expect.stringMatching(/^pipeline: options that are not known: local_files_only, cache_dir; known are device, threads, dtype,/),
  ]);
});

describe('vectors', () => {
  test('not pooled: hidden states, filled up with zeros', async () => {
    const { dims, data, tolist } = await extract(texts);
    const lengths = texts.map((text) => extract.tokenizer.encode(text).ids.length);
    expect(dims).toEqual([4, Math.max(...lengths), 16]);
    const nested = tolist() as number[][][];
    expect(nested.flat(2)).toEqual([...data]);
    const filled = nested.map((text) => text.filter((token) => token.some((value) => value !== 0)).length);
    expect(filled).toEqual(lengths);
    const alone = await extract(texts[1]);
    expect(alone.dims).toEqual([1, lengths[1], 16]);
    close(alone.data, nested[1].slice(0, lengths[1]).flat(), 1e-5);
  });

  test.each(['mean', 'cls', 'max'] as const)('pooled by %s, over a text’s own tokens', async (pooling) => {
    const states = (await extract(texts)).tolist() as number[][][];
    const { dims, data } = await extract(texts, { pooling });
    expect(dims).toEqual([4, 16]);
    texts.forEach((text, i) => {
      const own = states[i].slice(0, extract.tokenizer.encode(text).ids.length);
      const column = (j: number) => own.map((token) => token[j]);
      const expected = own[0].map((first, j) => {
        if (pooling === 'cls') return first;
        return pooling === 'max' ? Math.max(...column(j)) : column(j).reduce((a, b) => a + b) / own.length;
      });
      close(data.subarray(16 * i, 16 * i + 16), expected, 1e-5);
    });
    const { data: scaled } = await extract(texts, { pooling, normalize: true });
    for (let i = 0; i < 4; i++) {
      const vector = data.subarray(16 * i, 16 * i + 16);
      const length = Math.hypot(...vector);
      close(
        scaled.subarray(16 * i, 16 * i + 16),
        vector.map((value) => value / length),
        1e-6,
      );
    }
  });

  test('not pooled, normalize scales each token’s', async () => {
    const [plain, scaled] = [await extract(texts), await extract(texts, { normalize: true })];
    expect(scaled.dims).toEqual(plain.dims);
    for (let start = 0; start < plain.data.length; start += 16) {
      const vector = plain.data.subarray(start, start + 16);
      const length = Math.hypot(...vector) || 1; // Filled up with zeros.
      close(
        scaled.data.subarray(start, start + 16),
        vector.map((value) => value / length),
        1e-6,
      );
    }
  });

  test('a stream gives the same, one by one, in order', async () => {
    async function* stream() {
      for (let i = 0; i < 150; i++) yield* texts;
    }
    const { data } = await extract(texts, { pooling: 'mean' });
    let count = 0;
    for await (const vector of extract(stream(), { pooling: 'mean' })) {
      const at = 16 * (count++ % 4);
      close(vector, data.subarray(at, at + 16), 1e-5);
    }
    expect(count).toBe(600);
    await expect(extract(stream()).next()).rejects.toThrow(/expected a pooling other than 'none'/);
  });

  test('what is too long is cut, with a notice', async () => {
    const long = Array(100).fill('the cat').join(' ');
    notices.length = 0;
    const { dims } = await extract([long, 'a dog']);
    expect(dims[1]).toBe(64);
    expect(notices).toEqual(['1 of 2 texts has more than 64 tokens: the end was left out']);
  });

  test('of a stream, the first that are cut are told of at once, and all at its end', async () => {
    const long = Array(100).fill('the cat').join(' ');
    async function* stream(last: string) {
      for (let i = 0; i < 1000; i++) yield i % 100 === 0 && i < 900 ? long : 'a dog';
      yield last;
    }
    const told = async (last: string) => {
      notices.length = 0;
      const counts: number[] = [];
      for await (const _ of extract(stream(last), { pooling: 'mean' })) counts.push(notices.length);
      return { first: counts[0], last: counts.at(-1), notices: [...notices] };
    };
    const { first, last, notices: lines } = await told('a dog');
    expect([first, last]).toEqual([1, 1]);
    expect(lines).toHaveLength(2);
    expect(lines[1]).toBe('9 of 1001 texts have more than 64 tokens: the end was left out');
    expect((await told(long)).notices.at(-1)).toBe('10 of 1001 texts have more than 64 tokens: the end was left out');
  });

  test('no texts: no vectors', async () => {
    expect((await extract([], { pooling: 'mean' })).dims).toEqual([0, 16]);
  });
});

describe('what is wrong is said', () => {
  test.each([
    [[3], {}, 'text 1: got number, expected a string, token ids'],
    [null, {}, 'the text: got null, expected a string, token ids or an array of such'],
    [
      'a',
      { pooling: 'median' },
      'pooling: got "median", expected one of none, mean, cls, max, mean_sqrt_len_tokens, weightedmean, lasttoken',
    ],
    [
      'a',
      { pooling: 'toString' },
      'pooling: got "toString", expected one of none, mean, cls, max, mean_sqrt_len_tokens, weightedmean, lasttoken',
    ],
  ])('%j %j', async (input, options, message) => {
    await expect(extract(input as never, options as never)).rejects.toThrow(new InputError(message));
  });

  test('a signal stops a call', async () => {
    const stop = new AbortController();
    stop.abort(new Error('enough'));
    await expect(extract(texts, { signal: stop.signal })).rejects.toThrow('enough');
    await extract('a dog');
  });

  test('timers fire while many texts are tokenized, and a signal stops that too', async () => {
    const stop = new AbortController();
    setTimeout(() => stop.abort(new Error('enough')));
    await expect(extract(new Array(5000).fill('a dog sees the house'), { pooling: 'mean', signal: stop.signal })).rejects.toThrow('enough');
  });

  test('a disposed pipeline', async () => {
    const other = await pipeline('feature-extraction', folder, { device });
    await other.dispose();
    await expect(other('a')).rejects.toThrow('this feature-extraction pipeline was disposed');
  });
});

describe.skipIf(miniLmGoldenMissing)(`all-MiniLM-L6-v2${miniLmGoldenMissing}`, () => {
  interface Golden {
    sentences: { text: string; ids: number[]; embedding: number[] }[];
  }
  const golden = () => JSON.parse(readFileSync(miniLmGolden, 'utf8')) as Golden;

  test('embeddings agree with those of sentence-transformers to 1e-4', async () => {
    using own = await createDevice();
    using embed = await pipeline('feature-extraction', miniLm, { device: own });
    expect(embed.maxLength).toBe(256);
    const { sentences } = golden();
    const { dims, data } = await embed(sentences.map(({ text }) => text));
    expect(dims).toEqual([sentences.length, 384]);
    sentences.forEach(({ text, ids, embedding }, i) => {
      expect(embed.tokenizer.encode(text, { maxLength: embed.maxLength }).ids).toEqual(ids);
      close(data.subarray(384 * i, 384 * (i + 1)), embedding, 1e-4);
    });
  });
});

describe('dimensions', () => {
  const figures = JSON.parse(readFileSync(new URL('../fixtures/interchange/answers.json', import.meta.url), 'utf8')).dimensions;
  const model = fileURLToPath(new URL('../fixtures/interchange/models/st6-pooling', import.meta.url));

  test("the first numbers, scaled again, as sentence-transformers' truncate_dim with normalize_embeddings gives them", async () => {
    using short = await pipeline('feature-extraction', model, { device: new ReferenceDevice(), notice: () => {} });
    const { dims, data } = await short(figures.texts, { dimensions: 7 });
    expect(dims).toEqual([3, 7]);
    for (const [i, value] of figures.answer.flat().entries()) expect(data[i]).toBeCloseTo(value, 5);
    async function* stream() {
      yield* figures.texts as string[];
    }
    const streamed: number[] = [];
    for await (const vector of short(stream(), { dimensions: 7 })) streamed.push(...vector);
    expect(streamed).toEqual([...data]);
    // Without the model's own scaling they are what they are.
    const [whole, cut] = [
      await short(figures.texts, { normalize: false }),
      await short(figures.texts, { normalize: false, dimensions: 7 }),
    ];
    expect([...cut.data.subarray(7, 14)]).toEqual([...whole.data.subarray(32, 39)]);
    await expect(short('a', { dimensions: 33 })).rejects.toThrow('dimensions: got 33, expected a whole number from 1 to 32');
    await expect(short('a', { dimensions: 1.5 })).rejects.toThrow('dimensions: got 1.5');
    await expect(short('a', { dimensions: 7, pooling: 'none' })).rejects.toThrow('dimensions: the vectors of tokens are not cut');
  });
});
