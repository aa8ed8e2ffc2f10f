import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { ReferenceDevice } from '../src/backend/reference.ts';
import * as main from '../src/index.ts';
import * as nn from '../src/index_nn.ts';
import * as train from '../src/index_train.ts';
import { temporaryFolder } from './temporary.ts';
import { writeTinyClassifier, writeTinyModel } from './tiny_model.ts';

const folder = temporaryFolder();
const model = join(folder, 'model');
const classifier = join(folder, 'classifier');
const device = new ReferenceDevice();
const notices: string[] = [];
const options = { device, notice: (line: string) => void notices.push(line) };

// biome-ignore lint/suspicious/noExplicitAny: as plain JavaScript calls them
type Any = any;
const ufb = { ...main, ...nn, ...train };
const api: Any = ufb;
let fill: Any, extract: Any, classify: Any, tokenizer: Any, network: Any;
beforeAll(async () => {
  await writeTinyModel(model);
  await writeTinyClassifier(model, classifier);
  fill = await ufb.pipeline('fill-mask', model, options);
  extract = await ufb.pipeline('feature-extraction', model, options);
  classify = await ufb.pipeline('text-classification', classifier, options);
  tokenizer = fill.tokenizer;
  network = fill.model;
});

/** Values of all types but the one that is meant. */
const others: Record<string, unknown> = {
  undefined,
  null: null,
  number: 5,
  string: 'x',
  boolean: true,
  object: {},
  array: [],
  function: () => {},
  symbol: Symbol('s'),
  bigint: 5n,
};
const allBut = (...names: string[]) => Object.entries(others).filter(([name]) => !names.includes(name));
const layer = { width: 8, trees: 1, depth: 2, seed: 1 };

const calls: [argument: string, right: string[], call: (value: Any) => unknown][] = [
  ['task', [], (value) => api.pipeline(value, model)],
  ['model', ['undefined', 'string'], (value) => api.pipeline('fill-mask', value, options)],
  ['options', ['undefined', 'object', 'function'], (value) => api.pipeline('fill-mask', model, value)],
  ...(['notice', 'progress_callback'] as const).map((name): (typeof calls)[number] => [
    name,
    ['undefined', 'function'],
    (value) => api.pipeline('fill-mask', model, { ...options, [name]: value }),
  ]),
  ['signal', ['undefined'], (value) => api.pipeline('fill-mask', model, { ...options, signal: value })],
  ['device', ['undefined', 'string'], (value) => api.pipeline('fill-mask', model, { device: value })],
  ['threads', ['undefined', 'number'], (value) => api.pipeline('fill-mask', model, { device: 'reference', threads: value })],
  ['revision', ['undefined', 'string'], (value) => api.pipeline('fill-mask', model, { ...options, revision: value })],
  ['the text', ['string', 'array'], (value) => fill(value)],
  ['options', ['undefined', 'object', 'function'], (value) => fill('a [MASK]', value)],
  ['top_k', ['undefined', 'number'], (value) => fill('a [MASK]', { top_k: value })],
  ['targets', ['undefined', 'string'], (value) => fill('a [MASK]', { targets: value })],
  ['signal', ['undefined'], (value) => fill('a [MASK]', { signal: value })],
  ['refused_callback', ['undefined', 'function'], (value) => fill('a [MASK]', { refused_callback: value })],
  ['pooling', ['undefined'], (value) => extract('a', { pooling: value })],
  ['normalize', ['undefined', 'boolean'], (value) => extract('a', { normalize: value })],
  ['the text', ['string', 'array'], (value) => classify(value)],
  ['top_k', ['undefined', 'null', 'number'], (value) => classify('a', { top_k: value })],
  ['path', ['string'], (value) => api.Tokenizer.load(value)],
  ['text', ['string'], (value) => tokenizer.encode(value)],
  ['pair', ['undefined', 'string'], (value) => tokenizer.encode('a', { pair: value })],
  ['maxLength', ['undefined', 'number'], (value) => tokenizer.encode('a', { maxLength: value })],
  ['ids', ['array'], (value) => tokenizer.decode(value)],
  ['options', ['undefined', 'object', 'function'], (value) => tokenizer.decode([1], value)],
  ['folder', ['string'], (value) => api.loadModel(value, device)],
  ['device', [], (value) => api.loadModel(model, value)],
  ['dtype', ['undefined'], (value) => api.loadMaskedLanguageModel(model, device, { dtype: value })],
  ['folder', ['string'], (value) => api.saveCheckpoint(value, network)],
  ['model', [], (value) => api.saveCheckpoint(folder, value)],
  ['device', [], (value) => api.createMaskedLanguageModel(network.config, value, 1)],
  ['config', [], (value) => api.createSequenceClassifier(value, device, 1)],
  ['changes', ['object', 'function'], (value) => api.crammedBertConfig(value)],
  ['texts', ['array'], (value) => api.trainWordPiece(value, { vocabularySize: 100 })],
  ['options', ['object', 'function'], (value) => api.trainWordPiece(['a b'], value)],
  ['onProgress', ['undefined', 'function'], (value) => api.trainWordPiece(['a b'], { vocabularySize: 100, onProgress: value })],
  ['texts', ['string'], (value) => api.trainWordPiece([value], { vocabularySize: 100 })],
  ['device', [], (value) => api.FastFeedforward.create(value, layer)],
  ['seed', ['number'], (value) => api.FastFeedforward.create(device, { ...layer, seed: value })],
  ['device', [], (value) => new api.Arena(value)],
  ['device', [], (value) => new api.AdamW(value, [])],
  ['parameters', ['array'], (value) => new api.AdamW(device, value)],
  ['parameter', ['object', 'function'], (value) => api.startBranchesAlike(value)],
  ['seed', ['number'], (value) => api.dropoutKey(value, 1, 1)],
  ['shape', ['array'], (value) => device.tensor('t', value)],
  ['values', ['array'], (value) => device.write(device.zeros('t', [1]), value)],
];

describe('what is of another type is an InputError that names the argument', () => {
  test.each(calls.map(([argument, right, call]) => [argument, String(call).slice(11, 90), right, call] as const))(
    '%s: %s',
    async (argument, _, right, call) => {
      for (const [type, value] of allBut(...right)) {
        let caught: unknown = `${type}: nothing was thrown`;
        try {
          await call(value);
        } catch (error) {
          caught = error;
        }
        expect(caught, type).toBeInstanceOf(ufb.InputError);
        expect((caught as Error).message).toMatch(new RegExp(`\\b${argument}\\b`));
      }
    },
  );
});

test('options that are not known are told once, with the one that may be meant', async () => {
  notices.length = 0;
  for (let i = 0; i < 2; i++) {
    await fill('a [MASK]', { topK: 3, foo: 1 });
    await extract('a', { normalise: true });
    for await (const _ of classify(
      (async function* () {
        yield 'a';
      })(),
      { return_all_scores: true } as never,
    ));
  }
  expect(notices).toEqual([
    'fill-mask: options that are not known: topK (did you mean top_k?), foo; known are top_k, targets, signal, refused_callback, timing_callback',
    'feature-extraction: options that are not known: normalise (did you mean normalize?); known are pooling, normalize, dimensions, prompt, prompt_name, truncation, truncation_side, signal, refused_callback, timing_callback',
    'text-classification: options that are not known: return_all_scores; known are top_k, function_to_apply, prompt, prompt_name, truncation, truncation_side, signal, refused_callback, timing_callback',
  ]);
  notices.length = 0;
  await (await ufb.pipeline('fill-mask', model, { ...options, threadz: 1 } as never)).dispose();
  expect(notices[0]).toMatch(/^pipeline: options that are not known: threadz \(did you mean threads\?\); known are device, threads, /);
});
