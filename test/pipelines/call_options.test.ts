import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { type CallTiming, pipeline } from '../../src/index.ts';
import { temporaryFolder } from '../temporary.ts';
import { tinyBert, writeTinyClassifier, writeTinyModel } from '../tiny_model.ts';

const folder = temporaryFolder();
const [model, classifier] = [join(folder, 'model'), join(folder, 'classifier')];
const device = 'reference' as const;
const long = 'the cat sees the house '.repeat(20);

beforeAll(async () => {
  await writeTinyModel(model, tinyBert);
  await writeTinyClassifier(model, classifier);
});

describe('a call of a pipeline', () => {
  test('is told tokens and times of each text', async () => {
    await using extract = await opened('feature-extraction', model);
    let timing: CallTiming | undefined;
    await extract(['a dog', long], { pooling: 'mean', timing_callback: (told) => (timing = told) });
    expect(timing?.texts.map(({ tokens, truncated }) => [tokens, truncated > 0])).toEqual([
      [extract.tokenizer.encode('a dog').ids.length, false],
      [64, true],
    ]);
    for (const { queue, inference } of timing?.texts ?? []) expect([queue >= 0, inference > 0]).toEqual([true, true]);
    expect(timing?.tokenization).toBeGreaterThan(0);
  });

  test('refuses texts that are too long if they are not to be cut', async () => {
    await using extract = await opened('feature-extraction', model);
    await expect(extract(['a dog', long], { truncation: false })).rejects.toThrow(/^text 2 has \d+ tokens, but the model takes at most 64/);
    await using classify = await opened('text-classification', classifier);
    await expect(classify(long, { truncation: false })).rejects.toThrow(/^the text has \d+ tokens, but the model takes at most 64/);
  });

  test('leaves out the end that it says', async () => {
    await using extract = await opened('feature-extraction', model);
    const whole = extract.tokenizer.encode(long, { addSpecialTokens: false }).ids;
    // This tokenizer's template ends a text, and puts nothing before it.
    const end = extract.tokenizer.encode('').ids;
    const begins = [...whole.slice(0, 64 - end.length), ...end];
    const ends = [...whole.slice(end.length - 64), ...end];
    const of = async (texts: (string | number[])[], truncation_side?: 'left' | 'right') =>
      (await extract(texts, { pooling: 'mean', truncation_side })).data;
    expect(await of([long], 'left')).toEqual(await of([ends]));
    expect(await of([long])).toEqual(await of([begins]));
    expect(await of([long], 'left')).not.toEqual(await of([long]));
  });

  test('takes token ids for a text', async () => {
    await using extract = await opened('feature-extraction', model);
    const text = 'my sister draws a river';
    const { ids } = extract.tokenizer.encode(text);
    expect((await extract([ids], { pooling: 'mean' })).data).toEqual((await extract([text], { pooling: 'mean' })).data);
    await expect(extract([[1, 100000]], {})).rejects.toThrow('token id 100000');
    await expect(extract([[1.5]], {})).rejects.toThrow('token id 1.5');
    await expect(extract([[]], {})).rejects.toThrow('makes no token');
    await expect(extract([ids], { prompt: 'query: ' })).rejects.toThrow('before which no prompt can be put');
  });

  test('scores by the function that it says', async () => {
    await using classify = await opened('text-classification', classifier);
    const scores = async (function_to_apply: 'none' | 'sigmoid' | 'softmax') =>
      (await classify('a dog', { top_k: null, function_to_apply })).map(({ score }) => score);
    const raw = await scores('none');
    for (const [index, score] of (await scores('sigmoid')).entries()) expect(score).toBeCloseTo(1 / (1 + Math.exp(-raw[index])), 6);
    expect((await scores('softmax')).reduce((sum, score) => sum + score)).toBeCloseTo(1, 6);
    await expect(classify('a dog', { function_to_apply: 'tanh' as never })).rejects.toThrow('none, sigmoid, softmax');
  });
});

test('batches keep within the limits that a pipeline is given', async () => {
  const batches: { texts: number; tokens: number }[] = [];
  const batching = { max_tokens: 40, max_texts: 3, batch_callback: (batch: { texts: number; tokens: number }) => void batches.push(batch) };
  await using extract = await pipeline('feature-extraction', model, { device, batching });
  await extract(new Array(10).fill('a dog'), { pooling: 'mean' });
  await extract([long], { pooling: 'mean' });
  const { length } = extract.tokenizer.encode('a dog').ids;
  expect(batches.map(({ texts }) => texts)).toEqual([3, 3, 3, 1, 1]);
  expect(batches.map(({ tokens }) => tokens)).toEqual([3 * length, 3 * length, 3 * length, length, 64]);
  expect(extract.queued).toBe(0);
  await expect(pipeline('feature-extraction', model, { device, batching: { max_tokens: 0 } })).rejects.toThrow('max_tokens: got 0');
});

function opened<Name extends 'feature-extraction' | 'text-classification'>(task: Name, from: string) {
  return pipeline(task, from, { device, notice: () => {} });
}
