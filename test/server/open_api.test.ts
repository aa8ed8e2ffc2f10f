import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { temporaryFolder } from '../temporary.ts';
import { tinyBert, writeTinyModel } from '../tiny_model.ts';
import { type Serving, serve } from './serving.ts';

const root = temporaryFolder();
const [masked, reranker] = [join(root, 'masked'), join(root, 'reranker')];
let serving: Serving;
interface Description {
  openapi: string;
  paths: Record<
    string,
    Record<
      string,
      { operationId: string; requestBody?: { content: { 'application/json': { schema: object; example: unknown } } }; responses: object }
    >
  >;
}
let description: Description;

beforeAll(async () => {
  await writeTinyModel(masked, tinyBert);
  await writeTinyModel(reranker, { ...tinyBert, numLabels: 1 }, 'sequence-classification');
  serving = await serve([
    { name: 'embedder', folder: masked, pooling: 'mean' },
    { name: 'reranker', folder: reranker },
    { name: 'filler', folder: masked },
  ]);
  description = (await (await fetch(`${serving.url}/api-doc/openapi.json`)).json()) as Description;
});
afterAll(() => serving.stop());

test('it is OpenAPI 3.1 of the routes that the models do', async () => {
  expect(description.openapi).toBe('3.1.0');
  expect(Object.keys(description.paths).sort()).toEqual(
    [
      '/embed /embed_all /similarity /v1/embeddings /embeddings /predict /rerank /v1/rerank /fill_mask /tokenize /decode',
      '/health /ping /ready /metrics /docs /api-doc/openapi.json /info /v1/models',
    ]
      .flatMap((paths) => paths.split(' '))
      .sort(),
  );
  const ids = Object.values(description.paths).flatMap((methods) => Object.values(methods).map(({ operationId }) => operationId));
  expect(new Set(ids).size).toBe(ids.length);
  const one = await serve([{ folder: masked }]);
  const own = (await (await fetch(`${one.url}/api-doc/openapi.json`)).json()) as Description;
  expect(Object.keys(own.paths)).toContain('/fill_mask');
  expect(Object.keys(own.paths)).not.toContain('/embed');
  await one.stop();
});

test('bodies are described with what they need and what they may leave out', () => {
  const { schema } = description.paths['/embed'].post.requestBody!.content['application/json'];
  expect(schema).toMatchObject({ type: 'object', required: ['inputs'], properties: { normalize: { default: true } } });
  expect(JSON.stringify(schema)).toContain('minLength');
});

test('every example is answered', async () => {
  for (const [path, { post }] of Object.entries(description.paths)) {
    if (!post) continue;
    const response = await serving.post(path, post.requestBody?.content['application/json'].example);
    expect(response.status, `${path}: ${await response.text()}`).toBe(200);
  }
});

describe('/docs', () => {
  test('shows every route, and needs no other file', async () => {
    const response = await fetch(`${serving.url}/docs`);
    const page = await response.text();
    expect(response.headers.get('content-type')).toMatch(/^text\/html/);
    for (const path of Object.keys(description.paths)) expect(page).toContain(`<code>${path}</code></h2>`);
    expect([...page.matchAll(/(?:src|href)="([^"#][^"]*)"/g)].map(([, target]) => target)).toEqual(['api-doc/openapi.json']);
    expect(page).not.toMatch(/<script|@import|url\(/);
  });
});
