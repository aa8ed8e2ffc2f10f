import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { pipeline, type TextGenerationPipeline } from '../../src/index.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyDecoder } from '../tiny_decoder.ts';
import { type Serving, serve } from './serving.ts';

const folder = join(temporaryFolder(), 'model');
let serving: Serving;
let client: OpenAI;
let generate: TextGenerationPipeline;
const greedy = { model: 'writer', max_tokens: 12, temperature: 0 };

beforeAll(async () => {
  await writeTinyDecoder(folder);
  // What is drawn at random does not end early.
  writeFileSync(join(folder, 'generation_config.json'), '{ "eos_token_id": [] }');
  const template = '{% for message in messages %}{{ message.role }}: {{ message.content }} {% endfor %}';
  const config = join(folder, 'tokenizer_config.json');
  writeFileSync(config, JSON.stringify({ chat_template: template }));
  serving = await serve([{ name: 'writer', folder }]);
  client = new OpenAI({ baseURL: `${serving.url}/v1`, apiKey: 'any' });
  generate = await pipeline('text-generation', folder, { device: 'reference' });
});
afterAll(async () => {
  await generate.dispose();
  await serving.stop();
});

const written = async (prompt: string, options: object = {}) =>
  (await generate(prompt, { max_new_tokens: 12, return_full_text: false, ...options })).map(({ generated_text }) => generated_text);

test('what is written is what the pipeline writes', async () => {
  const answer = await client.completions.create({ ...greedy, prompt: 'the cat' });
  expect(answer).toMatchObject({ object: 'text_completion', model: 'writer', choices: [{ index: 0, finish_reason: 'length' }] });
  expect(answer.choices[0].text).toBe((await written('the cat'))[0]);
  expect(answer.usage).toMatchObject({ completion_tokens: 12, prompt_tokens: generate.tokenizer.encode('the cat').ids.length });
  const several = await client.completions.create({ ...greedy, prompt: ['the cat', 'a dog'], echo: true });
  expect(several.choices.map(({ text, index }) => [index, text])).toEqual([
    [0, `the cat${(await written('the cat'))[0]}`],
    [1, `a dog${(await written('a dog'))[0]}`],
  ]);
});

test('the same seed draws the same texts, in one piece or streamed', async () => {
  const asked = { model: 'writer', prompt: 'the cat', max_tokens: 12, temperature: 1.2, top_p: 0.9, n: 2, seed: 7 };
  const whole = await client.completions.create(asked);
  const own = await written('the cat', { do_sample: true, temperature: 1.2, top_p: 0.9, top_k: 0, seed: 7, num_return_sequences: 2 });
  expect(whole.choices.map(({ text }) => text)).toEqual(own);
  const texts = ['', ''];
  const ends: unknown[] = [];
  let usage: unknown;
  for await (const event of await client.completions.create({ ...asked, stream: true, stream_options: { include_usage: true } })) {
    for (const { index, text, finish_reason } of event.choices) {
      texts[index] += text;
      if (finish_reason) ends.push(finish_reason);
    }
    usage = event.usage ?? usage;
  }
  expect(texts).toEqual(own);
  expect(ends).toEqual(['length', 'length']);
  expect(usage).toEqual(whole.usage);
});

test('a text ends before what is to stop it', async () => {
  const [text] = await written('the cat');
  const stop = text.slice(3, 6);
  const answer = await client.completions.create({ ...greedy, prompt: 'the cat', stop: [stop] });
  expect(answer.choices[0]).toMatchObject({ text: text.slice(0, text.indexOf(stop)), finish_reason: 'stop' });
});

test('a conversation is gone on with', async () => {
  const messages = [{ role: 'user' as const, content: 'the cat' }];
  const answer = await client.chat.completions.create({ ...greedy, messages });
  const [{ generated_text: own }] = await generate(messages, { max_new_tokens: 12, return_full_text: false });
  expect(answer.choices[0].message).toMatchObject({ role: 'assistant', content: own });
  let streamed = '';
  for await (const { choices } of await client.chat.completions.create({ ...greedy, messages, stream: true }))
    streamed += choices[0]?.delta.content ?? '';
  expect(streamed).toBe(own);
});

test('events are as OpenAI sends them, and end with [DONE]', async () => {
  const response = await serving.post('/v1/completions', { ...greedy, prompt: 'the cat', stream: true });
  expect(response.headers.get('content-type')).toBe('text/event-stream');
  const lines = (await response.text()).trim().split('\n\n');
  expect(lines.at(-1)).toBe('data: [DONE]');
  for (const line of lines.slice(0, -1)) expect(JSON.parse(line.slice('data: '.length))).toMatchObject({ object: 'text_completion' });
});

test('mistakes are told before anything is sent, streamed or not', async () => {
  for (const stream of [false, true]) {
    const long = await serving.post('/v1/completions', { prompt: 'the cat sees '.repeat(100), stream });
    expect([long.status, ((await long.json()) as { error: { message: string } }).error.message]).toEqual([
      422,
      expect.stringContaining('positions'),
    ]);
    expect((await serving.post('/v1/completions', { prompt: 'a', temperature: 3, stream })).status).toBe(422);
    expect((await serving.post('/v1/completions', { stream })).status).toBe(422);
  }
  expect((await serving.post('/embed', { inputs: 'a' })).status).toBe(424);
});

test('what is taken is given back, also by a client that reads no more', async () => {
  const small = await serve([{ name: 'writer', folder }], { maxConcurrentRequests: 1 });
  const gone = new AbortController();
  small.gate.close();
  const begun = fetch(`${small.url}/v1/completions`, {
    method: 'POST',
    body: JSON.stringify({ prompt: 'the cat', max_tokens: 50, stream: true }),
    signal: gone.signal,
  });
  await expect.poll(async () => (await small.post('/v1/completions', { prompt: 'a' })).status).toBe(429);
  gone.abort();
  await expect(begun).rejects.toThrow();
  small.gate.open();
  await expect.poll(async () => (await small.post('/v1/completions', { prompt: 'a', max_tokens: 1 })).status).toBe(200);
  await small.stop();
});
