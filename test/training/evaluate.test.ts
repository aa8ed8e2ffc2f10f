import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import type { FillMaskCandidate } from '../../src/pipelines/fill_mask.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import { evaluateMaskedLanguageModel } from '../../src/training/evaluate.ts';
import { temporaryFolder } from '../temporary.ts';
import { tinyBert, writeTinyModel } from '../tiny_model.ts';
import { writeCorpus } from './corpora.ts';

const device = new ReferenceDevice();
const folder = temporaryFolder();
const [bert, crammed] = [join(folder, 'bert'), join(folder, 'crammed')];
const words = ['the', 'cat', 'sees'];
let text: string;
beforeAll(async () => {
  await writeTinyModel(bert, tinyBert);
  const tokenizer = JSON.parse(readFileSync(join(bert, 'tokenizer.json'), 'utf8'));
  const { '[CLS]': cls, '[SEP]': sep } = tokenizer.model.vocab;
  tokenizer.post_processor = { type: 'BertProcessing', sep: ['[SEP]', sep], cls: ['[CLS]', cls] };
  writeFileSync(join(bert, 'tokenizer.json'), JSON.stringify(tokenizer));
  await writeTinyModel(crammed);
  text = writeCorpus(folder, 'text.txt', [[words.join(' ')]]);
});

test('a BERT reads its texts between [CLS] and [SEP], and is asked about neither', async () => {
  const found = [];
  for (let seed = 0; seed < 8; seed++) {
    const { loss, tokens, predicted } = await evaluateMaskedLanguageModel({ device, model: bert, text, seed, length: 5, blanks: 1 });
    expect([tokens, predicted]).toEqual([3, 1]);
    found.push(loss);
  }
  using fill = await pipeline('fill-mask', bert, { device });
  const expected = [];
  for (const [blank, word] of words.entries()) {
    const answers = (await fill(words.map((each, i) => (i === blank ? '[MASK]' : each)).join(' '), { top_k: 120 })) as FillMaskCandidate[];
    const answer = answers.find(({ token_str }) => token_str === word);
    if (answer) expected.push(-Math.log(answer.score));
  }
  expect(expected).toHaveLength(3);
  for (const loss of found) expect(Math.min(...expected.map((each) => Math.abs(each - loss)))).toBeLessThan(1e-4);
  expect(new Set(found).size).toBeGreaterThan(1);
});

test.each([
  ['crammed', {}, 'has 4 tokens, expected at least one sequence of 64: pass --length 4 or less'],
  ['crammed', { length: 7 }, 'has 4 tokens, expected at least one sequence of 7: pass --length 4 or less'],
  ['bert', {}, 'has 4 tokens, expected at least one sequence of 62: pass --length 6 or less'],
  ['bert', { blanks: 2 }, 'pass --length 6 or less'],
])('of a text that is too short, %s with %j, it says what length would do, and that does', async (model, options, message) => {
  const run = (more: { length?: number } = {}) =>
    evaluateMaskedLanguageModel({ device, model: join(folder, model), text, seed: 0, ...options, ...more });
  const error: Error = await run().catch((caught) => caught);
  expect(error.message).toContain(message);
  expect((await run({ length: Number(/--length (\d+)/.exec(error.message)?.[1]) })).tokens).toBe(4);
});

test('a text of one token needs --blanks too; one of which the tokenizer makes nothing is refused', async () => {
  const one = writeCorpus(folder, 'one.txt', [['the']]);
  // With the [SEP] of a paragraph it has two.
  const run = (path: string, more: object = {}) => evaluateMaskedLanguageModel({ device, model: bert, text: path, seed: 0, ...more });
  await expect(run(one)).rejects.toThrow(/pass --length 4 or less, and --blanks 1/);
  expect((await run(one, { length: 4, blanks: 1 })).tokens).toBe(2);
  await expect(run(writeCorpus(folder, 'ru.txt', [['Москва']]))).rejects.toThrow(/ru\.txt: its first 6 characters all become nothing/);
});

test.each([
  ['crammed', { length: 2 }, '--length 2 is too short: 25 % of a sequence are predicted, and that is no token'],
  ['bert', { length: 2 }, '--length 2 is too short'],
  ['bert', { length: 4, blanks: 3 }, '--blanks 3 is more than the 2 tokens of a sequence'],
  ['crammed', { length: 100 }, '--length 100 is more than the 64 positions'],
])('%s %j is refused', async (model, options, message) => {
  await expect(evaluateMaskedLanguageModel({ device, model: join(folder, model), text, seed: 0, ...options })).rejects.toThrow(message);
});
