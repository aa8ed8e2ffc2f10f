import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { FailureError, InputError } from '../../src/errors.ts';
import { readSafetensors } from '../../src/io/safetensors.ts';
import { writeSafetensors } from '../../src/io/safetensors_writer.ts';
import { Session } from '../../src/models/session.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import type { GenerationEnd, TextGenerationPipeline } from '../../src/pipelines/text_generation.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyDecoder } from '../tiny_decoder.ts';

const folder = temporaryFolder();
const model = join(folder, 'model');
const device = new ReferenceDevice();
const notices: string[] = [];
const open = (path = model) => pipeline('text-generation', path, { device, notice: (line) => void notices.push(line) });
let generator: TextGenerationPipeline;
beforeAll(async () => {
  await writeTinyDecoder(model);
  // What is drawn at random does not end early.
  writeFileSync(join(model, 'generation_config.json'), '{ "eos_token_id": [] }');
  generator = await open();
});
afterAll(async () => {
  await generator.dispose();
  device.dispose();
});

/** A copy of the model's folder with other files. */
function copyOf(name: string, files: Record<string, object | string>): string {
  const to = join(folder, name);
  cpSync(model, to, { recursive: true });
  for (const [file, content] of Object.entries(files))
    writeFileSync(join(to, file), typeof content === 'string' ? content : JSON.stringify(content));
  return to;
}

/** The most probable tokens one by one, each of the whole text anew: without a cache. */
async function byDefinition(prompt: string, count: number): Promise<string> {
  const { tokenizer, model: decoder } = generator;
  const ids = [...tokenizer.encode(prompt).ids];
  const first = ids.length;
  using session = new Session(device);
  while (ids.length < first + count) {
    const batch = { batch: 1, length: ids.length, ids: Int32Array.from(ids) };
    const logits = await session.pass((context) => device.read(decoder.logits(context, batch, Int32Array.of(ids.length - 1))));
    const best = logits.indexOf(Math.max(...logits));
    ids.push(best);
  }
  return prompt + tokenizer.decode(ids.slice(first), { skipSpecialTokens: true });
}

/** The pieces of a stream, and what it returns. */
async function all(stream: AsyncGenerator<string, GenerationEnd>): Promise<{ pieces: string[]; end: GenerationEnd }> {
  const pieces: string[] = [];
  for (;;) {
    const { done, value } = await stream.next();
    if (done) return { pieces, end: value };
    pieces.push(value);
  }
}

const drawn = { do_sample: true, temperature: 1.5, top_k: 0, max_new_tokens: 24 };
const prompts = ['the cat sees the', 'a', 'my sister carries the letter to the old man and a small bird'];

describe('what is written', () => {
  test('is the most probable text, the same as without a cache', async () => {
    for (const prompt of prompts) {
      const [{ generated_text }] = await generator(prompt, { max_new_tokens: 12 });
      expect(generated_text).toBe(await byDefinition(prompt, 12));
    }
  });

  test('of several prompts of different lengths is what it is of each alone', async () => {
    const settings = [{ max_new_tokens: 12 }, { ...drawn, seed: 5 }, { ...drawn, seed: 5, num_return_sequences: 3 }];
    for (const options of settings) {
      const together = await generator(prompts, options);
      const alone = [];
      for (const prompt of prompts) alone.push(await generator(prompt, options));
      expect(together).toEqual(alone);
    }
  });

  test('by a seed is always the same, and several texts are different ones', async () => {
    const options = { ...drawn, seed: 7, num_return_sequences: 3 };
    const texts = (await generator('the', options)).map(({ generated_text }) => generated_text);
    expect(new Set(texts).size).toBe(3);
    expect((await generator('the', options)).map(({ generated_text }) => generated_text)).toEqual(texts);
    expect((await generator('the', { ...options, seed: 8 })).map(({ generated_text }) => generated_text)).not.toEqual(texts);
    // Without a seed another text each time.
    const [first, second] = [await generator('the', drawn), await generator('the', drawn)];
    expect(first).not.toEqual(second);
  });

  test('ends with the end of text, with a stop text, or with as many tokens as were asked for', async () => {
    const [{ generated_text, finish_reason, generated_tokens, prompt_tokens }] = await generator('the', { ...drawn, seed: 1 });
    expect({ finish_reason, generated_tokens }).toEqual({ finish_reason: 'length', generated_tokens: 24 });
    expect(prompt_tokens).toBe(generator.tokenizer.encode('the').ids.length);
    const written = generated_text.slice(3);
    // Across a border of tokens, whatever they are.
    for (const start of [2, 5, 9]) {
      const stop = written.slice(start, start + 4);
      const [stopped] = await generator('the', { ...drawn, seed: 1, stop_strings: [stop, 'never there'] });
      expect(stopped.generated_text).toBe(`the${written.slice(0, written.indexOf(stop))}`);
      expect(stopped.finish_reason).toBe('stop');
    }
    const token = generator.tokenizer.encode(written.trimStart()).ids[0];
    const other = await open(copyOf('other-end', { 'generation_config.json': { eos_token_id: [token, 0] } }));
    const [ended] = await other('the', { ...drawn, seed: 1, max_new_tokens: 64 - 1 });
    expect(ended.finish_reason).toBe('stop');
    expect(ended.generated_tokens).toBeLessThan(40);
    await other.dispose();
  });

  test('stands alone without the prompt', async () => {
    const [{ generated_text }] = await generator('the cat', { max_new_tokens: 5 });
    const [{ generated_text: alone }] = await generator('the cat', { max_new_tokens: 5, return_full_text: false });
    expect(`the cat${alone}`).toBe(generated_text);
  });
});

describe('a stream', () => {
  test('gives the text in pieces of whole characters, and how it ended', async () => {
    for (let seed = 0; seed < 5; seed++) {
      const options = { ...drawn, seed, max_new_tokens: 40 };
      const [{ generated_text, ...end }] = await generator('the cat', options);
      const { pieces, end: streamed } = await all(generator.stream('the cat', options));
      expect(`the cat${pieces.join('')}`).toBe(generated_text);
      expect(streamed).toEqual(end);
      for (const piece of pieces) expect(piece).not.toMatch(/^$|\p{Surrogate}/u);
    }
  });

  test('of any of several texts is that text', async () => {
    const texts = await generator('the cat', { ...drawn, seed: 3, num_return_sequences: 3, return_full_text: false });
    const { pieces } = await all(generator.stream('the cat', { ...drawn, seed: 3, sequence: 2 }));
    expect(pieces.join('')).toBe(texts[2].generated_text);
  });

  test('that nobody asks any more ends, and others go on', async () => {
    const text = generator.stream('the cat', { ...drawn, seed: 0 });
    const { pieces } = await all(generator.stream('a dog', { ...drawn, seed: 1 }));
    let count = 0;
    for await (const piece of text) if (piece !== '' && ++count === 3) break;
    expect(await text.next()).toEqual({ done: true, value: undefined });
    expect((await all(generator.stream('a dog', { ...drawn, seed: 1 }))).pieces).toEqual(pieces);
  });

  test('stops in the middle when the signal aborts', async () => {
    const stop = new AbortController();
    const pieces: string[] = [];
    const reading = (async () => {
      for await (const piece of generator.stream('the cat', { ...drawn, seed: 0, signal: stop.signal }))
        if (pieces.push(piece) === 3) stop.abort();
    })();
    await expect(reading).rejects.toThrow(stop.signal.reason);
    expect(pieces).toHaveLength(3);
  });
});

test('several at once in one pipeline give what each gives alone', async () => {
  const ask = (seed: number) => generator(prompts[seed % 3], { ...drawn, seed });
  const alone = [];
  for (let seed = 0; seed < 6; seed++) alone.push(await ask(seed));
  expect(await Promise.all(Array.from({ length: 6 }, (_, seed) => ask(seed)))).toEqual(alone);
});

test('a call stops when the signal aborts', async () => {
  const stop = new AbortController();
  const call = generator(prompts, { ...drawn, max_new_tokens: 40, signal: stop.signal });
  // The others of a pipeline take turns with it.
  for await (const _ of generator.stream('the', { ...drawn, seed: 0 })) stop.abort();
  await expect(call).rejects.toThrow(stop.signal.reason);
  await expect(generator('the', { signal: AbortSignal.abort(new Error('before')) })).rejects.toThrow('before');
});

describe('prompts', () => {
  test('without text begin as texts do', async () => {
    const [{ generated_text, prompt_tokens }] = await generator('', { ...drawn, seed: 2 });
    expect(prompt_tokens).toBe(1);
    expect((await generator('<|endoftext|>', { ...drawn, seed: 2 }))[0].generated_text).toBe(`<|endoftext|>${generated_text}`);
    expect(await generator([])).toEqual([]);
  });

  test('of as many tokens as the model has positions, or more, are refused before anything is computed', async () => {
    const long = 'the cat '.repeat(80);
    await expect(generator(long)).rejects.toThrow(
      /^the text: has \d+ tokens, and the model 64 positions: none is left to write at; shorten it$/,
    );
    await expect(generator(['the', long])).rejects.toThrow(/^text 2: has /);
    await expect(generator.stream(long).next()).rejects.toThrow(InputError);
  });

  test('that are close to it are gone on with to the end of the positions, which is told', async () => {
    notices.length = 0;
    const [{ generated_tokens, prompt_tokens }] = await generator('the cat', { ...drawn, seed: 0, max_new_tokens: 1000 });
    expect(generated_tokens + prompt_tokens).toBe(64);
    expect(notices).toEqual(["the text ends with the model's 64 positions, before as many tokens are written as were asked for"]);
  });

  test('with nothing to be written are given back', async () => {
    expect(await generator('the cat', { max_new_tokens: 0 })).toEqual([
      { generated_text: 'the cat', finish_reason: 'length', prompt_tokens: expect.any(Number), generated_tokens: 0 },
    ]);
    expect((await all(generator.stream('the cat', { max_new_tokens: 0 }))).pieces).toEqual([]);
  });
});

describe('conversations', () => {
  const template =
    '{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}';
  const chat = [
    { role: 'system', content: 'short' },
    { role: 'user', content: 'the cat?' },
  ];
  const asText = 'system: short<|endoftext|>user: the cat?<|endoftext|>assistant:';

  test.each([
    ['tokenizer_config.json', (config: object) => ({ 'tokenizer_config.json': { ...config, chat_template: template } })],
    [
      'several there',
      (config: object) => ({
        'tokenizer_config.json': {
          ...config,
          chat_template: [
            { name: 'other', template: '' },
            { name: 'default', template },
          ],
        },
      }),
    ],
    ['chat_template.jinja', () => ({ 'chat_template.jinja': template })],
  ])('are answered by the template of %s', async (name, files) => {
    const config = JSON.parse(readFileSync(join(model, 'tokenizer_config.json'), 'utf8'));
    const talker = await open(copyOf(`chat ${name}`, files(config)));
    const [{ generated_text: content }] = await talker(asText, { max_new_tokens: 8, return_full_text: false });
    expect((await talker(chat, { max_new_tokens: 8 }))[0].generated_text).toEqual([...chat, { role: 'assistant', content }]);
    expect((await talker([chat, chat], { max_new_tokens: 8, return_full_text: false }))[1][0].generated_text).toBe(content);
    expect((await all(talker.stream(chat, { max_new_tokens: 8 }))).pieces.join('')).toBe(content);
    await talker.dispose();
  });

  test('need a template, and one that can be used', async () => {
    await expect(generator(chat)).rejects.toThrow(
      "the text: is a conversation, but the model's tokenizer has no chat template; pass a text",
    );
    const path = copyOf('broken', { 'chat_template.jinja': '{% for m in %}' });
    const broken = await open(path);
    await expect(broken(chat)).rejects.toThrow(`${join(path, 'chat_template.jinja')}: `);
    await expect(broken(chat)).rejects.toThrow(InputError);
    expect((await broken('the'))[0].generated_tokens).toBe(20);
    await broken.dispose();
    const strict = await open(copyOf('strict', { 'chat_template.jinja': "{{ raise_exception('no system') }}" }));
    await expect(strict(chat)).rejects.toThrow(/chat_template.jinja: .*no system/);
    await strict.dispose();
  });
});

describe('settings', () => {
  test('are those of generation_config.json where a call says nothing', async () => {
    const settings = { do_sample: true, temperature: 1.5, top_k: 0, max_new_tokens: 7, repetition_penalty: 1.2, unknown: [1] };
    const other = await open(copyOf('settings', { 'generation_config.json': settings }));
    const expected = await generator('the', {
      do_sample: true,
      temperature: 1.5,
      top_k: 0,
      max_new_tokens: 7,
      repetition_penalty: 1.2,
      seed: 4,
    });
    expect(await other('the', { seed: 4 })).toEqual(expected);
    expect((await other('the', { max_length: 5 }))[0].generated_tokens).toBe(5 - expected[0].prompt_tokens);
    await other.dispose();
    const wrong = copyOf('wrong', { 'generation_config.json': { top_p: 2 } });
    await expect(open(wrong)).rejects.toThrow(
      `${join(wrong, 'generation_config.json')}: top_p: got 2, expected a number above 0, at most 1`,
    );
  });

  test('are 20 most probable tokens where nothing is said', async () => {
    expect((await generator('the'))[0].generated_tokens).toBe(20);
  });

  test.each([
    [{ temperature: 0 }, 'temperature: got 0, expected a number above 0 (do_sample: false always takes the most probable token)'],
    [{ top_k: -1 }, 'top_k: got -1, expected a whole number from 0'],
    [{ top_p: 1.5 }, 'top_p: got 1.5'],
    [{ repetition_penalty: Number.NaN }, 'repetition_penalty: got NaN'],
    [{ max_new_tokens: 1.5 }, 'max_new_tokens: got 1.5'],
    [{ num_return_sequences: 0 }, 'num_return_sequences: got 0, expected a whole number from 1'],
    [{ stop_strings: ['a', ''] }, 'stop_strings: got'],
    [{ seed: 0.5 }, 'seed: got 0.5, expected a whole number'],
    [{ do_sample: 'yes' as never }, 'do_sample: got "yes", expected true or false'],
  ])('%j is refused', async (options, message) => {
    await expect(generator('the', options)).rejects.toThrow(InputError);
    await expect(generator('the', options)).rejects.toThrow(message);
  });

  test('of what is drawn are told to have no use where nothing is', async () => {
    notices.length = 0;
    await generator('the', { temperature: 0.5, max_new_tokens: 1 });
    expect(notices).toEqual([
      'temperature is of what is drawn, but do_sample is false: the most probable token is always taken; pass do_sample: true',
    ]);
  });

  test.each([[7], [[['role']]], [[{ role: 'user' }]]])('%j is no prompt', async (prompt) => {
    await expect(generator(prompt as never)).rejects.toThrow(/^(the text|text 1): got .*, expected a string/);
  });
});

test('a model whose logits are not finite is a failure that names the text', async () => {
  const broken = copyOf('overflow', {});
  await using file = await readSafetensors(join(model, 'model.safetensors'));
  const tensors = await Promise.all(
    file.names.map(async (name) => {
      const values = await file.read(name);
      return { name, dtype: 'F32' as const, shape: file.info(name).shape, values: name.includes('ln_f') ? values.fill(3e38) : values };
    }),
  );
  await writeSafetensors(join(broken, 'model.safetensors'), tensors, { format: 'pt' });
  const other = await open(broken);
  await expect(other(['the', 'a'])).rejects.toThrow(FailureError);
  await expect(other(['the', 'a'])).rejects.toThrow(/^text 1: the model's logits are not finite/);
  await other.dispose();
});

test('a pipeline that was disposed refuses calls, also those of a stream that was begun', async () => {
  const other = await open();
  const stream = other.stream('the', { ...drawn, seed: 0 });
  await stream.next();
  await other.dispose();
  await expect(stream.next()).rejects.toThrow('this text-generation pipeline was disposed');
  await expect(other('the')).rejects.toThrow('this text-generation pipeline was disposed');
});

test('without a model, and with one of another kind, it says what to name', async () => {
  await expect(pipeline('text-generation')).rejects.toThrow(
    'text-generation: no model is named, and the one that ships fills masks; name a folder',
  );
});
