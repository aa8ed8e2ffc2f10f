import { request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { temporaryFolder } from '../temporary.ts';
import { tinyBert, writeTinyModel } from '../tiny_model.ts';
import { type Serving, serve } from './serving.ts';

const folder = join(temporaryFolder(), 'model');
const model = { name: 'embedder', folder, pooling: 'mean' as const };
/** More than a client's share. */
const long = new Array(64).fill('the cat sees the house '.repeat(8));
const running: Serving[] = [];
const start = async (...given: Parameters<typeof serve>) => {
  const serving = await serve(...given);
  running.push(serving);
  return serving;
};
/** The value of a metric, by its name and labels. */
async function metric(serving: Serving, name: string): Promise<number> {
  const text = await (await fetch(`${serving.url}/metrics`)).text();
  const line = text.split('\n').find((each) => each.startsWith(`${name} `));
  return line === undefined ? 0 : Number(line.split(' ')[1]);
}
const error = async (response: Response) => [response.status, ((await response.json()) as { error_type: string }).error_type];

beforeAll(() => writeTinyModel(folder, tinyBert));
afterAll(() => Promise.all(running.map((serving) => serving.stop())));

describe('keys', () => {
  const key = 'a-long-secret';
  let serving: Serving;
  beforeAll(async () => {
    serving = await start([model], { apiKeys: [key, 'another'], corsAllowOrigin: ['https://page.example'] });
  });

  test.each(['/', '/health', '/ping', '/ready', '/metrics', '/docs', '/api-doc/openapi.json'])('%s needs none', async (path) => {
    expect((await fetch(`${serving.url}${path}`)).status).toBe(200);
  });

  test('answers need one of them', async () => {
    const ask = (authorization?: string) =>
      serving.post('/embed', { inputs: 'a dog' }, authorization === undefined ? {} : { authorization });
    expect((await ask(`Bearer ${key}`)).status).toBe(200);
    expect((await ask('bearer another')).status).toBe(200);
    for (const wrong of [undefined, '', 'Bearer', `Bearer ${key}x`, `Bearer ${key.slice(1)}`, `Basic ${key}`, key])
      expect(await error(await ask(wrong))).toEqual([401, 'Unauthenticated']);
    expect((await fetch(`${serving.url}/info`)).status).toBe(401);
    const body = (await (await serving.post('/v1/embeddings', { input: 'a dog' })).json()) as {
      error: { code: string };
      code: number;
      type: string;
    };
    expect([body.error.code, body.code, body.type]).toEqual(['invalid_api_key', 401, 'Unauthenticated']);
  });

  test('pages of an allowed origin may ask, with a key', async () => {
    const preflight = await fetch(`${serving.url}/embed`, {
      method: 'OPTIONS',
      headers: {
        origin: 'https://page.example',
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization,content-type',
      },
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get('access-control-allow-origin')).toBe('https://page.example');
    expect(preflight.headers.get('access-control-allow-headers')).toMatch(/authorization/i);
    const refused = await serving.post('/embed', { inputs: 'a dog' }, { origin: 'https://page.example' });
    expect([refused.status, refused.headers.get('access-control-allow-origin')]).toEqual([401, 'https://page.example']);
    const other = await serving.post('/embed', { inputs: 'a dog' }, { origin: 'https://other.example' });
    expect(other.headers.get('access-control-allow-origin')).toBe(null);
  });

  test('neither keys nor texts are logged', async () => {
    await serving.post('/embed', { inputs: 'a-secret-text' }, { authorization: `Bearer ${key}` });
    await serving.post('/embed', { inputs: 'a-secret-text', dimensions: 100000 }, { authorization: `Bearer ${key}` });
    await serving.post('/embed?a-secret-text', '{"inputs": "a-secret-text', { authorization: 'Bearer a-wrong-key' });
    await serving.post('/a-secret-text', {});
    const log = JSON.stringify(serving.log);
    expect(log).toContain('"path":"/embed"');
    for (const hidden of ['secret', 'wrong-key', 'another']) expect(log).not.toContain(hidden);
  });
});

describe('bodies', () => {
  let serving: Serving;
  beforeAll(async () => {
    serving = await start([model], { payloadLimit: 1000 });
  });

  test.each([
    ['{', 422],
    ['', 422],
    ['null', 422],
    ['[]', 422],
    ['"text"', 422],
    ['{}', 422],
    ['{"inputs": null}', 422],
    ['{"inputs": 3}', 422],
    ['{"inputs": [3.5]}', 422],
    ['{"inputs": [-1]}', 422],
    ['{"inputs": [1, "a"]}', 422],
    ['{"inputs": ["a", 1]}', 422],
    ['{"inputs": [["a"]]}', 422],
    ['{"inputs": [999999]}', 422],
    ['{"inputs": {}}', 422],
    ['{"inputs": "a", "normalize": "yes"}', 422],
    ['{"inputs": "a", "truncate": 1}', 422],
    ['{"inputs": "a", "truncation_direction": "up"}', 422],
    ['{"inputs": "a", "dimensions": 0}', 422],
    ['{"inputs": "a", "dimensions": 17}', 422],
    ['{"inputs": "a", "prompt_name": "none"}', 422],
    ['{"inputs": ""}', 400],
    ['{"inputs": []}', 400],
    ['{"inputs": ["a", ""]}', 400],
    ['{"inputs": [[]]}', 400],
    ['{"inputs": "a", "normalize": null, "unknown": 1}', 200],
  ])('%s is answered with %d', async (body, status) => {
    const response = await serving.post('/embed', body);
    const answer = await response.text();
    expect(response.status, answer).toBe(status);
    if (status !== 200) expect(Object.keys(JSON.parse(answer))).toEqual(['error', 'error_type']);
  });

  test('what is not UTF-8, unknown routes and other methods are told', async () => {
    const bytes = await fetch(`${serving.url}/embed`, { method: 'POST', body: new Uint8Array([0x22, 0xff, 0x22]) });
    expect([bytes.status, ((await bytes.json()) as { error: string }).error]).toEqual([422, 'the body is not in UTF-8']);
    expect(await error(await fetch(`${serving.url}/nowhere`))).toEqual([404, 'NotFound']);
    const other = await fetch(`${serving.url}/embed`);
    expect([other.headers.get('allow'), ...(await error(other))]).toEqual(['POST', 405, 'MethodNotAllowed']);
  });

  test('a body that says that it is too long is refused before it comes', async () => {
    const status = await new Promise((resolve, reject) => {
      const asked = request(`${serving.url}/embed`, { method: 'POST', headers: { 'content-length': '1001' } });
      asked.on('response', (response) => resolve(response.statusCode)).on('error', reject);
      asked.write('{'); // and nothing more
    });
    expect(status).toBe(413);
  });

  test('a body that does not say how long it is is read up to the limit', async () => {
    const status = await new Promise((resolve, reject) => {
      const asked = request(`${serving.url}/embed`, { method: 'POST' });
      asked.on('response', (response) => resolve(response.statusCode)).on('error', reject);
      asked.write('a'.repeat(600));
      asked.write('a'.repeat(600)); // and no end
    });
    expect(status).toBe(413);
  });

  test('a client that has no more to send, and says so, is answered', async () => {
    const { port, hostname } = new URL(serving.url);
    const body = '{"inputs": "a dog"}';
    const answer = await new Promise<string>((resolve) => {
      let text = '';
      const socket = connect({ port: Number(port), host: hostname, allowHalfOpen: true }, () => {
        socket.end(`POST /embed HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
      });
      socket.on('data', (data) => (text += data)).on('end', () => resolve(text));
    });
    expect(answer).toMatch(/^HTTP\/1.1 200 /);
  });
});

test('texts beyond the limit get 429 at once, and are told of', async () => {
  const serving = await start([model], { maxConcurrentRequests: 40 });
  serving.gate.close();
  const first = serving.post('/embed', { inputs: long }); // counts 32
  await expect.poll(() => metric(serving, 'te_embed_count')).toBe(64);
  const refused = await serving.post('/embed', { inputs: long.slice(0, 20) });
  expect([refused.headers.get('retry-after'), ...(await error(refused))]).toEqual(['1', 429, 'Overloaded']);
  const fits = serving.post('/embed', { inputs: 'a dog' });
  serving.gate.open();
  expect((await fits).status).toBe(200);
  expect((await first).status).toBe(200);
  expect(await metric(serving, 'te_request_failure{err="overloaded"}')).toBe(1);
  // What was taken is given back.
  expect((await serving.post('/embed', { inputs: long })).status).toBe(200);
});

test('what clients that went away asked for is not computed', async () => {
  const serving = await start([model]);
  const before = await metric(serving, 'te_batch_next_size_sum');
  serving.gate.close();
  const gone = new AbortController();
  const asked = Array.from({ length: 10 }, () =>
    fetch(`${serving.url}/embed`, { method: 'POST', body: JSON.stringify({ inputs: long }), signal: gone.signal }),
  );
  await expect.poll(() => metric(serving, 'te_embed_count')).toBe(640);
  gone.abort();
  await Promise.allSettled(asked);
  await expect.poll(() => metric(serving, 'te_request_failure{err="dropped"}')).toBe(10);
  serving.gate.open();
  await expect.poll(() => metric(serving, 'te_queue_size'), { timeout: 60_000 }).toBe(0);
  expect((await metric(serving, 'te_batch_next_size_sum')) - before).toBeLessThan(640);
  expect((await serving.post('/embed', { inputs: 'a dog' })).status).toBe(200);
  expect(serving.log.filter(({ status }) => status === 499)).toHaveLength(10);
});

test('a request is given up after its time', async () => {
  const serving = await start([model], { requestSeconds: 0.05 });
  serving.gate.close();
  const response = await serving.post('/embed', { inputs: 'a dog' });
  serving.gate.open();
  expect(await error(response)).toEqual([429, 'Overloaded']);
});

test('answers tell the id and what they took', async () => {
  const serving = await start([model]);
  const response = await serving.post('/embed', { inputs: 'a dog' }, { 'x-request-id': 'abc-1' });
  const { headers } = response;
  expect(headers.get('x-request-id')).toBe('abc-1');
  expect(Number(headers.get('x-compute-tokens'))).toBeGreaterThan(1);
  expect(headers.get('x-compute-characters')).toBe('5');
  expect(headers.get('x-compute-type')).toBe('cpu');
  for (const name of ['x-compute-time', 'x-total-time', 'x-tokenization-time', 'x-queue-time', 'x-inference-time'])
    expect(headers.get(name)).toMatch(/^\d+$/);
  const other = await serving.post('/embed', { inputs: 'a dog' }, { 'x-request-id': 'not this one' });
  expect(other.headers.get('x-request-id')).toMatch(/^[\da-f-]{36}$/);
  expect(await metric(serving, 'te_request_count{method="single"}')).toBe(2);
  expect(await metric(serving, 'te_request_success{method="single"}')).toBe(2);
  expect(await metric(serving, 'te_embed_success')).toBe(2);
  expect(await metric(serving, 'te_request_input_length_count')).toBe(2);
  expect(await metric(serving, 'te_embed_queue_duration_count')).toBe(2);
});
