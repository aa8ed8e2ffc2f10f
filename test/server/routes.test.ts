import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { pipeline } from '../../src/index.ts';
import { temporaryFolder } from '../temporary.ts';
import { tinyBert, writeTinyClassifier, writeTinyModel } from '../tiny_model.ts';
import { type Serving, serve } from './serving.ts';

const root = temporaryFolder();
const folders = { masked: join(root, 'masked'), classifier: join(root, 'classifier'), reranker: join(root, 'reranker') };
const texts = ['the cat sees the house', 'a dog', 'my sister draws a long road .'];
const device = 'reference' as const;
let serving: Serving;

beforeAll(async () => {
  await writeTinyModel(folders.masked, tinyBert);
  await writeTinyClassifier(folders.masked, folders.classifier);
  await writeTinyModel(folders.reranker, { ...tinyBert, numLabels: 1 }, 'sequence-classification');
  serving = await serve([
    { name: 'embedder', folder: folders.masked, pooling: 'mean' },
    { name: 'classifier', folder: folders.classifier },
    { name: 'reranker', folder: folders.reranker },
    { name: 'filler', folder: folders.masked },
  ]);
});
afterAll(() => serving.stop());

describe('embeddings', () => {
  async function expected(given: (string | number[])[], normalize = true, dimensions?: number): Promise<number[][]> {
    const extract = await pipeline('feature-extraction', folders.masked, { device });
    const vectors = (await extract(given, { pooling: 'mean', normalize, dimensions })).tolist() as number[][];
    await extract.dispose();
    return vectors;
  }

  test('/embed answers as the pipeline does, one text or several', async () => {
    expect(await serving.ask('/embed', { inputs: texts })).toEqual(await expected(texts));
    expect(await serving.ask('/embed', { inputs: texts[0] })).toEqual(await expected([texts[0]]));
    expect(await serving.ask('/embed', { inputs: texts[0], normalize: false, dimensions: 4 })).toEqual(
      await expected([texts[0]], false, 4),
    );
    expect(await serving.ask('/', { inputs: texts[0] })).toEqual(await expected([texts[0]]));
  });

  test('a text may be token ids', async () => {
    const tokens = (await serving.ask('/tokenize', { inputs: texts[0], model: 'embedder' })) as { id: number }[][];
    const ids = tokens[0].map(({ id }) => id);
    expect(await serving.ask('/embed', { inputs: ids })).toEqual(await expected([texts[0]]));
    expect(await serving.ask('/embed', { inputs: [ids, texts[1]] })).toEqual(await expected([ids, texts[1]]));
  });

  test('a batch answers as single requests do, whatever it goes with', async () => {
    const single = await Promise.all(texts.map((text) => serving.ask('/embed', { inputs: text })));
    expect(await serving.ask('/embed', { inputs: texts })).toEqual(single.flat());
  });

  test('/embed_all gives the vectors of the tokens of each text', async () => {
    const extract = await pipeline('feature-extraction', folders.masked, { device });
    const answer = (await serving.ask('/embed_all', { inputs: texts })) as number[][][];
    for (const [index, text] of texts.entries()) expect(answer[index]).toEqual((await extract(text)).tolist()[0]);
    await extract.dispose();
  });

  test('/similarity is the cosine', async () => {
    const [source, ...others] = await expected(texts);
    const answer = (await serving.ask('/similarity', { inputs: { source_sentence: texts[0], sentences: texts.slice(1) } })) as number[];
    expect(answer).toHaveLength(2);
    for (const [i, other] of others.entries())
      expect(answer[i]).toBeCloseTo(
        other.reduce((sum, value, k) => sum + value * source[k], 0),
        6,
      );
  });

  test("OpenAI's client gets the same numbers as floats and as base64", async () => {
    const client = new OpenAI({ baseURL: `${serving.url}/v1`, apiKey: 'any' });
    const vectors = await expected(texts);
    // The client asks for base64 unless it is told, and decodes it.
    const byBase64 = await client.embeddings.create({ model: 'embedder', input: texts });
    expect(byBase64.data.map(({ embedding }) => embedding)).toEqual(vectors);
    expect(byBase64.data.map(({ index }) => index)).toEqual([0, 1, 2]);
    const asFloats = await client.embeddings.create({ model: 'text-embedding-3-small', input: texts, encoding_format: 'float' });
    expect(asFloats.data.map(({ embedding }) => embedding)).toEqual(vectors);
    expect(asFloats.model).toBe('embedder');
    const tokens = (await serving.ask('/tokenize', { inputs: texts, model: 'embedder' })) as unknown[][];
    const count = tokens.reduce((sum, of) => sum + of.length, 0);
    expect(asFloats.usage).toEqual({ prompt_tokens: count, total_tokens: count });
    expect((await client.models.list()).data.map(({ id }) => id)).toEqual(['embedder', 'classifier', 'reranker', 'filler']);
    await expect(client.embeddings.create({ model: 'embedder', input: '' })).rejects.toThrow(/^400 `input` is empty/);
  });

  test('long texts are cut, at the end that is said, or refused', async () => {
    const long = 'the cat sees the house '.repeat(30);
    const of = async (more: object) => (await serving.ask('/embed', { inputs: long, ...more })) as number[][];
    expect(await of({})).toEqual(await expected([long]));
    expect(await of({ truncation_direction: 'Left' })).not.toEqual(await of({}));
    const response = await serving.post('/embed', { inputs: long, truncate: false });
    expect(response.status).toBe(422);
    expect(((await response.json()) as { error: string }).error).toMatch(/has \d+ tokens, but the model takes at most 64/);
  });

  test('a list longer than a client batch is answered', async () => {
    const many = Array.from({ length: 100 }, (_, i) => `the cat sees ${'the house '.repeat(i % 20)}`);
    const answer = (await serving.ask('/embed', { inputs: many })) as number[][];
    const vectors = await expected(many);
    for (const [i, vector] of answer.entries()) for (const [k, value] of vector.entries()) expect(value).toBeCloseTo(vectors[i][k], 6);
  });
});

describe('classes and ranks', () => {
  test('/predict answers a text, a pair, or a list of either', async () => {
    const classify = await pipeline('text-classification', folders.classifier, { device });
    const all = async (input: string | [string, string]) => (await classify([input], { top_k: null }))[0];
    expect(await serving.ask('/predict', { inputs: 'a dog' })).toEqual(await all('a dog'));
    expect(await serving.ask('/predict', { inputs: ['a dog', 'the cat'] })).toEqual(await all(['a dog', 'the cat']));
    const batch = [['a dog'], ['a dog', 'the cat']];
    expect(await serving.ask('/predict', { inputs: batch })).toEqual([await all('a dog'), await all(['a dog', 'the cat'])]);
    const raw = (await serving.ask('/predict', { inputs: 'a dog', raw_scores: true })) as { score: number }[];
    expect(raw.map(({ score }) => score)).toEqual(
      (await classify(['a dog'], { top_k: null, function_to_apply: 'none' }))[0].map(({ score }) => score),
    );
    await classify.dispose();
  });

  test('/rerank puts the best first, by sigmoids or outputs', async () => {
    const rank = await pipeline('text-ranking', folders.reranker, { device });
    const ranked = await rank('a dog', texts, { function_to_apply: 'sigmoid' });
    expect(await serving.ask('/rerank', { query: 'a dog', texts })).toEqual(
      ranked.map(({ corpus_id: index, score }) => ({ index, score })),
    );
    const raw = await rank('a dog', texts, { function_to_apply: 'none' });
    expect(await serving.ask('/rerank', { query: 'a dog', texts, raw_scores: true, return_text: true })).toEqual(
      raw.map(({ corpus_id: index, score, text }) => ({ index, score, text })),
    );
    expect(
      await serving.ask('/v1/rerank', { query: 'a dog', documents: [texts[0], { text: texts[1] }], top_n: 1, return_documents: true }),
    ).toMatchObject({
      results: [{ index: expect.any(Number), relevance_score: expect.any(Number), document: { text: expect.any(String) } }],
      model: 'reranker',
    });
    await rank.dispose();
  });
});

test('/fill_mask answers as the pipeline does', async () => {
  const fill = await pipeline('fill-mask', folders.masked, { device });
  const blank = 'the [MASK] sees the house';
  expect(await serving.ask('/fill_mask', { inputs: blank, top_k: 3 })).toEqual(await fill(blank, { top_k: 3 }));
  expect(await serving.ask('/fill_mask', { inputs: [blank, blank] })).toEqual(await fill([blank, blank]));
  await fill.dispose();
});

test('/tokenize tells places in bytes, /decode turns ids into text', async () => {
  const [tokens] = (await serving.ask('/tokenize', { inputs: 'é the cat' })) as {
    id: number;
    text: string;
    special: boolean;
    start: number | null;
    stop: number | null;
  }[][];
  const cat = tokens.filter(({ special }) => !special).at(-1)!;
  expect([cat.text, cat.start, cat.stop]).toEqual(['cat', 7, 10]);
  expect(tokens.filter(({ special }) => special).map(({ start, stop }) => [start, stop])).toEqual(
    tokens.filter(({ special }) => special).map(() => [null, null]),
  );
  const bare = (await serving.ask('/tokenize', { inputs: 'the cat', add_special_tokens: false })) as { special: boolean; id: number }[][];
  expect(bare[0].map(({ special }) => special)).toEqual([false, false]);
  expect(await serving.ask('/decode', { ids: bare[0].map(({ id }) => id) })).toEqual(['the cat']);
  expect(await serving.ask('/decode', { ids: [tokens.map(({ id }) => id)], skip_special_tokens: false })).toEqual([
    expect.stringContaining('cat'),
  ]);
});

test('a route that no model does says which there are', async () => {
  const one = await serve([{ name: 'classifier', folder: folders.classifier }]);
  const response = await one.post('/embed', { inputs: 'a dog' });
  expect([response.status, await response.json()]).toEqual([
    424,
    { error: expect.stringContaining('served is classifier (classifier)'), error_type: 'Backend' },
  ]);
  await one.stop();
});

test('/info tells the model as text-embeddings-inference does', async () => {
  const info = (await (await fetch(`${serving.url}/info`)).json()) as { models: object[] };
  expect(info).toMatchObject({
    model_id: 'some/model',
    model_sha: null,
    model_dtype: 'float32',
    served_model_name: 'embedder',
    model_type: { embedding: { pooling: 'mean' } },
    max_concurrent_requests: 512,
    max_input_length: 64,
    max_client_batch_size: 32,
    auto_truncate: true,
    server: { trees: 'off' },
  });
  expect(info.models).toHaveLength(4);
  const labels = ['cat', 'dog', 'bird'];
  expect(info.models[1]).toMatchObject({
    model_type: {
      classifier: { id2label: { 0: 'cat', 1: 'dog', 2: 'bird' }, label2id: Object.fromEntries(labels.map((label, i) => [label, i])) },
    },
  });
  const trees = join(root, 'trees');
  await writeTinyModel(trees);
  const other = await serve([{ folder: trees }]);
  expect(await (await fetch(`${other.url}/info`)).json()).toMatchObject({ server: { trees: 'on' } });
  await other.stop();
});

test("a model's prompts go before texts by their names", async () => {
  const folder = join(root, 'prompted');
  await writeTinyModel(folder, tinyBert);
  writeFileSync(
    join(folder, 'modules.json'),
    JSON.stringify([
      { idx: 0, name: '0', path: '', type: 'sentence_transformers.models.Transformer' },
      { idx: 1, name: '1', path: '1_Pooling', type: 'sentence_transformers.models.Pooling' },
    ]),
  );
  mkdirSync(join(folder, '1_Pooling'));
  writeFileSync(join(folder, '1_Pooling', 'config.json'), JSON.stringify({ word_embedding_dimension: 16, pooling_mode_mean_tokens: true }));
  writeFileSync(join(folder, 'config_sentence_transformers.json'), JSON.stringify({ prompts: { query: 'my sister ' } }));
  const prompted = await serve([{ folder }]);
  const of = (body: object) => prompted.ask('/embed', body);
  expect(await of({ inputs: 'draws', prompt_name: 'query' })).toEqual(await of({ inputs: 'my sister draws' }));
  expect((await prompted.post('/embed', { inputs: 'draws', prompt_name: 'none' })).status).toBe(422);
  await prompted.stop();
});
