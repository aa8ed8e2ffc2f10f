import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { loadCausalLanguageModel } from '../../src/models/checkpoint.ts';
import { Session } from '../../src/models/session.ts';
import { loadTokenizer } from '../../src/tokenizer/tokenizer_config.ts';
import { evaluateCausalLanguageModel, scoresByFrequency } from '../../src/training/evaluate_causal.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyDecoder } from '../tiny_decoder.ts';
import { generatedSentences } from '../tiny_model.ts';

const folder = temporaryFolder();
const model = join(folder, 'decoder');
const text = join(folder, 'text.txt');
const documents = Array.from({ length: 20 }, (_, i) => generatedSentences().slice(i, i + 2));
beforeAll(async () => {
  await writeTinyDecoder(model);
  writeFileSync(text, documents.map((paragraphs) => paragraphs.join('\n')).join('\n\n'));
});

describe('evaluateCausalLanguageModel', () => {
  test('is the mean over each token of the text, predicted of those before it in its sequence', async () => {
    using device = new ReferenceDevice();
    const length = 16;
    const scores = await evaluateCausalLanguageModel({ device, model, text, length });
    // Token by token, with the logits of a whole sequence each time.
    const tokenizer = await loadTokenizer(model);
    const tokens = documents.flatMap((paragraphs) => [...tokenizer.encode(paragraphs.join('\n')).ids, 0]);
    const count = Math.floor(tokens.length / length) * length;
    using decoder = await loadCausalLanguageModel(model, device);
    using session = new Session(device);
    let [total, hits] = [0, 0];
    for (let first = 0; first < count; first += length) {
      const ids = Int32Array.from({ length }, (_, i) => (first + i === 0 ? 0 : tokens[first + i - 1]));
      const logits = await session.pass((context) => device.read(decoder.logits(context, { batch: 1, length, ids })));
      const vocabulary = logits.length / length;
      for (let i = 0; i < length; i++) {
        const row = Array.from(logits.subarray(i * vocabulary, (i + 1) * vocabulary));
        const sum = row.reduce((all, logit) => all + Math.exp(logit), 0);
        total += Math.log(sum) - row[tokens[first + i]];
        if (row.indexOf(Math.max(...row)) === tokens[first + i]) hits++;
      }
    }
    expect(scores.tokens).toBe(count);
    expect(scores.loss).toBeCloseTo(total / count, 4);
    expect(scores.top1).toBeCloseTo(hits / count, 9);
    const bytes = documents.reduce((sum, paragraphs) => sum + paragraphs.join('\n').length + 1, 0);
    expect(scores.bitsPerByte).toBeCloseTo((scores.loss * tokens.length) / bytes / Math.LN2, 6);
    expect(scores.byFrequency.reduce((sum, { predicted }) => sum + predicted, 0)).toBe(count);
    expect(scores.byFrequency.reduce((sum, { predicted, loss }) => sum + predicted * loss, 0) / count).toBeCloseTo(scores.loss, 5);
    expect(scores.layers).toHaveLength(2);
  });

  test('does not depend on how many sequences are computed together', async () => {
    using device = new ReferenceDevice();
    const [some, all] = [400, undefined].map((maxTokens) => evaluateCausalLanguageModel({ device, model, text, maxTokens, length: 8 }));
    expect((await some).tokens).toBe(400);
    expect((await all).tokens).toBeGreaterThan(400);
  });

  test.each([
    [{ length: 65 }, '--length 65 is more than the 64 positions'],
    [{ length: 16, maxTokens: 15 }, '--max-tokens 15 is less than one sequence of 16 tokens'],
  ])('%j is refused', async (options, message) => {
    using device = new ReferenceDevice();
    await expect(evaluateCausalLanguageModel({ device, model, text, ...options })).rejects.toThrow(message);
  });

  test('a text that is too short says what would do', async () => {
    using device = new ReferenceDevice();
    const short = join(folder, 'short.txt');
    writeFileSync(short, 'the cat');
    const error = await evaluateCausalLanguageModel({ device, model, text: short }).catch((caught) => caught);
    const [, length] = /has (\d+) tokens, expected at least one sequence of 64: pass --length \1 or less$/.exec(
      error.message,
    ) as RegExpExecArray;
    expect((await evaluateCausalLanguageModel({ device, model, text: short, length: Number(length) })).tokens).toBe(Number(length));
  });
});

test('scoresByFrequency puts each token where its share of the text is', () => {
  // 7 is 90 of 1,000, 8 is 5 of them, 1000 to 1904 come once each: 1 in 1,000.
  const tokens = Int32Array.from({ length: 1000 }, (_, i) => (i < 90 ? 7 : i < 95 ? 8 : 905 + i));
  const losses = Float32Array.from(tokens, (token) => (token === 7 ? 1 : token === 8 ? 2 : 4));
  const ranks = Int32Array.from(tokens, (token) => (token === 7 ? 0 : 3));
  expect(scoresByFrequency(tokens, losses, ranks)).toEqual([
    { from: 0.01, below: 1, predicted: 90, distinct: 1, loss: 1, top1: 1 },
    { from: 0.001, below: 0.01, predicted: 910, distinct: 906, loss: (5 * 2 + 905 * 4) / 910, top1: 0 },
  ]);
});
