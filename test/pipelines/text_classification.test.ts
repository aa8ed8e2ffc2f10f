import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, expectTypeOf, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { InputError } from '../../src/errors.ts';
import { loadSequenceClassifier, saveCheckpoint } from '../../src/models/checkpoint.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import type {
  ClassificationInput,
  TextClass,
  TextClassificationOptions,
  TextClassificationPipeline,
} from '../../src/pipelines/text_classification.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyModel } from '../tiny_model.ts';

const folder = temporaryFolder();
const device = new ReferenceDevice();
const labelNames = ['cat', 'dog', 'bird'];
let classify: TextClassificationPipeline;

/** A classifier with a random head upon the tiny model. */
async function write(name: string, labels: number, labelNames?: string[]): Promise<string> {
  const [base, to] = [join(folder, 'base'), join(folder, name)];
  const model = await loadSequenceClassifier(base, device, { fresh: { labels, labelNames, seed: 3 } });
  const { Tokenizer } = await import('../../src/tokenizer/tokenizer.ts');
  await saveCheckpoint(to, model, { tokenizer: (await Tokenizer.load(join(base, 'tokenizer.json'))).json });
  model.dispose();
  return to;
}

beforeAll(async () => {
  await writeTinyModel(join(folder, 'base'));
  classify = await pipeline('text-classification', await write('three', 3, labelNames), { device, notice: () => {} });
});

const texts = ['the cat sees a long road .', 'a dog', { text: 'my sister', text_pair: 'the letter' }];

test('one text: its classes, best first, by softmax over the logits', async () => {
  const best = await classify('a dog');
  expectTypeOf(best).toEqualTypeOf<TextClass[]>();
  const all = await classify('a dog', { top_k: null });
  expect(best).toEqual([all[0]]);
  const { ids, typeIds } = classify.tokenizer.encode('a dog');
  using arena = new Arena(device);
  const batch = { batch: 1, length: ids.length, ids: Int32Array.from(ids), typeIds: Int32Array.from(typeIds) };
  const logits = await device.read(classify.model.logits({ device, arena, training: false }, batch));
  const sum = logits.reduce((total, logit) => total + Math.exp(logit), 0);
  expect(all).toHaveLength(3);
  const names = classify.model.config.labelNames ?? ['LABEL_0', 'LABEL_1', 'LABEL_2'];
  for (const { label, score } of all) expect(score).toBeCloseTo(Math.exp(logits[names.indexOf(label)]) / sum, 6);
  expect(all.map(({ score }) => score)).toEqual(all.map(({ score }) => score).sort((a, b) => b - a));
});

test('several texts, pairs among them: in order, and as each alone', async () => {
  const together = await classify(texts);
  expectTypeOf(together).toEqualTypeOf<TextClass[]>();
  const alone = await Promise.all(texts.map((text) => classify(text)));
  together.forEach(({ label, score }, i) => {
    expect(label).toBe(alone[i][0].label);
    expect(score).toBeCloseTo(alone[i][0].score, 5);
  });
  const lists = await classify(texts, { top_k: 2 });
  expectTypeOf(lists).toEqualTypeOf<TextClass[][]>();
  expect(lists.map((list) => list.length)).toEqual([2, 2, 2]);
  const streamed: string[] = [];
  async function* stream() {
    yield* texts;
  }
  for await (const [{ label }] of classify(stream())) streamed.push(label);
  expect(streamed).toEqual(together.map(({ label }) => label));
});

test('among several inputs a pair may be an array of two', async () => {
  const [asArray, text] = await classify([['my sister', 'the letter'], 'a dog']);
  expect([asArray, text]).toEqual(await classify([{ text: 'my sister', text_pair: 'the letter' }, 'a dog']));
});

test('types promise no more than comes', async () => {
  const either = (input: ClassificationInput | readonly ClassificationInput[]) => classify(input);
  const counted = (count: number) => classify(texts, { top_k: count });
  const optional = (options: TextClassificationOptions) => classify(texts, options);
  for (const call of [either, counted, optional]) expectTypeOf(call).returns.resolves.toEqualTypeOf<TextClass[] | TextClass[][]>();
  expectTypeOf(() => classify(texts, { top_k: 1 })).returns.resolves.toEqualTypeOf<TextClass[]>();
  expectTypeOf(() => classify(texts, { top_k: null })).returns.resolves.toEqualTypeOf<TextClass[][]>();
  expectTypeOf(() => classify(texts, {})).returns.resolves.toEqualTypeOf<TextClass[]>();
  expect(await counted(1)).toEqual(await optional({}));
  expect(await counted(1)).toEqual((await counted(2)).map((list) => (list as TextClass[])[0]));
  expect(await optional({ top_k: null })).toEqual(await counted(3));
});

test('pooling over all positions sees no padding', async () => {
  const model = await write('mean', 3);
  const path = join(model, 'config.json');
  const config = JSON.parse(readFileSync(path, 'utf8'));
  config.arch.classification_head.pooler = 'avg';
  writeFileSync(path, JSON.stringify(config));
  const mean = await pipeline('text-classification', model, { device });
  const together = await mean(['a dog', 'the cat sees a long road .', 'a cat'], { top_k: null });
  expect(together[0][0].score).toBeCloseTo((await mean('a dog'))[0].score, 6);
  expect(together[2][0].score).toBeCloseTo((await mean('a cat'))[0].score, 6);
});

test('one output is a regression: its score is the output', async () => {
  const grade = await pipeline('text-classification', await write('one', 1), { device });
  const [{ label, score }] = await grade('a dog');
  expect(label).toBe('LABEL_0');
  expect(score).not.toBe(1);
});

test("several labels that may hold at once are each judged by themselves: transformers' problem_type", async () => {
  const model = await write('several', 3, labelNames);
  const path = join(model, 'config.json');
  const text = readFileSync(path, 'utf8').replace('"single_label_classification"', '"multi_label_classification"');
  writeFileSync(path, text);
  const judge = await pipeline('text-classification', model, { device });
  const single = await classify('a dog', { top_k: null });
  const several = await judge('a dog', { top_k: null });
  expect(several.map(({ label }) => label)).toEqual(single.map(({ label }) => label));
  // Both come from the same logits: sigmoids' odds are in the same ratios as softmax's probabilities.
  const odds = several.map(({ score }) => score / (1 - score));
  odds.forEach((value, i) => {
    expect(value / odds[0]).toBeCloseTo(single[i].score / single[0].score, 5);
  });
  using arena = new Arena(device);
  const batch = { batch: 1, length: 1, ids: Int32Array.of(1), labels: Int32Array.of(0) };
  expect(() => judge.model.lossAndGradients({ device, arena, training: true }, batch)).toThrow(/can be run and not trained/);
});

describe('what is wrong is said', () => {
  test.each([
    [5, {}, 'the text: got number, expected a string, { text, text_pair } or [text, text_pair] or an array of such'],
    [['a', { text: 1 }], {}, 'text 2: got object, expected a string, { text, text_pair } or [text, text_pair]'],
    ['a', { top_k: 0 }, 'top_k: got 0, expected a whole number from 1, or null for all'],
  ])('%j %j', async (input, options, message) => {
    await expect(classify(input as never, options)).rejects.toThrow(new InputError(message));
  });

  test('a model that is no classifier', async () => {
    await expect(pipeline('text-classification', join(folder, 'base'), { device })).rejects.toThrow(/holds no classifier/);
  });
});
