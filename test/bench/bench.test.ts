import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ReferenceBackend } from '../../src/backend/reference.ts';
import { benchmarkDepth } from '../../src/bench/depth.ts';
import { readModelLayer } from '../../src/bench/model_layer.ts';
import { benchmarkScaling, neuronsInTime } from '../../src/bench/scaling.ts';
import { summarise } from '../../src/bench/timing.ts';
import { benchmarkTraining, modelArithmetic } from '../../src/bench/training.ts';
import { crammedBertConfig, type ModelConfig } from '../../src/models/config.ts';
import type { LabelledBatch, MaskedLanguageModel } from '../../src/models/masked_language_model.ts';
import { temporaryFolder } from '../temporary.ts';
import { generatedSentences, writeTinyModel } from '../tiny_model.ts';

test('timings are summarised by median and quartiles, in any order', () => {
  expect(summarise([5, 1, 4, 2, 3])).toEqual({ median: 3, low: 2, high: 4 });
  expect(summarise([1, 2])).toEqual({ median: 1.5, low: 1.25, high: 1.75 });
  expect(summarise([7])).toEqual({ median: 7, low: 7, high: 7 });
});

describe('model arithmetic', () => {
  const shape = { vocabularySize: 8192, hiddenSize: 256, layers: 6, heads: 4 };

  test('of the shipped shape: projections, scores, 12 neurons and a quarter of the head, 6 FLOP for each multiply-add', () => {
    const block = 256 * 768 + 256 * 256 + 2 * 128 * 256 + 2 * 12 * 256;
    expect(modelArithmetic(crammedBertConfig(shape), 128)).toBe(6 * (6 * block + 0.25 * 256 * 8192));
  });

  test('of dense layers: all neurons', () => {
    const fff = crammedBertConfig({ ...shape, feedforward: { kind: 'fff', trees: 2, depth: 3 } });
    const dense = crammedBertConfig({ ...shape, feedforward: { kind: 'dense', neurons: 8 } });
    expect(modelArithmetic(dense, 64)).toBe(modelArithmetic(fff, 64));
  });
});

test('the depth benchmark times every depth', async () => {
  using backend = new ReferenceBackend();
  const seen: number[] = [];
  const options = {
    width: 6,
    batch: 20,
    batches: 2,
    depths: [0, 2],
    rounds: 3,
    onDepth: ({ depth }: { depth: number }) => seen.push(depth),
  };
  const results = await benchmarkDepth(backend, options);
  expect(results.map(({ depth, neurons, bytes }) => [depth, neurons, bytes])).toEqual([
    [0, 1, 52],
    [2, 7, 364],
  ]);
  expect(seen).toEqual([0, 2]);
  for (const { forward, backward, forwardAndBackward, optimizer } of results) {
    for (const { low, median, high } of [forward, backward, forwardAndBackward, optimizer]) {
      expect(low).toBeGreaterThan(0);
      expect(median).toBeGreaterThanOrEqual(low);
      expect(high).toBeGreaterThanOrEqual(median);
    }
  }
});

describe('scaling', () => {
  test('neurons in a time lie on the line between the sizes around it', () => {
    const ladder = [
      { neurons: 8, usPerToken: 1 },
      { neurons: 16, usPerToken: 2 },
      { neurons: 64, usPerToken: 4 },
    ];
    expect([0.5, 1, 1.5, 3, 4, 8].map((time) => neuronsInTime(ladder, time))).toEqual([4, 8, 12, 40, 64, 128]);
  });

  test('every point stands beside the dense layer of as many neurons', async () => {
    using backend = new ReferenceBackend();
    const points = [
      { trees: 1, depth: 2, width: 8 },
      { trees: 3, depth: 1, width: 8 },
      { trees: 1, depth: 2, width: 4 },
    ];
    const results = await benchmarkScaling(backend, { points, batches: [2], dtype: 'f32', rounds: 1, roundMilliseconds: 0.1 });
    expect(results.map(({ trees, depth, width, neurons, used }) => [trees, depth, width, neurons, used])).toEqual([
      [1, 2, 8, 7, 3],
      [3, 1, 8, 9, 6],
      [1, 2, 4, 7, 3],
    ]);
    for (const { usPerToken, dense, ratio, denseNeurons, treesError, denseError } of results) {
      expect(ratio).toBeCloseTo(dense.usPerToken / usPerToken, 6);
      expect(denseNeurons).toBeGreaterThan(0);
      expect([treesError, denseError]).toEqual([0, 0]);
    }
  });
});

test("a model's layer and what it takes in of a text: its trees walk the paths that the model walks", async () => {
  const folder = temporaryFolder();
  await writeTinyModel(folder);
  const text = join(folder, 'text.txt');
  writeFileSync(text, generatedSentences().join('\n'));
  using backend = new ReferenceBackend();
  const { layer, tree, tokens, leavesReached, leaves } = await readModelLayer(backend, { model: folder, text, tokens: 100 });
  expect([layer, tree.trees, tree.depth, tree.width, tokens.values.length, leaves]).toEqual([1, 1, 3, 16, 128 * 16, 8]);
  using input = backend.tensor('input', [128, 16], 'f32', tokens.values);
  using nodes = backend.tensor('nodes', [15, 32], 'f32', tree.nodes);
  using bias = backend.tensor('bias', [15], 'f32', tree.bias);
  using output = backend.tensor('output', [128, 16]);
  using visited = backend.tensor('visited', [128, 1, 4], 'i32');
  backend.fff({ input, nodes, bias, trees: 1, depth: 3, output, visited });
  expect(new Set((await backend.readIntegers(visited)).filter((_, i) => i % 4 === 3)).size).toBe(leavesReached);
  const reading = (changes: object) => readModelLayer(backend, { model: folder, text, tokens: 100, ...changes });
  await expect(reading({ layer: 2 })).rejects.toThrow(/--layer 2: .* has layers 0 to 1/);
  await expect(reading({ tokens: 1e6 })).rejects.toThrow(/text\.txt: has \d+ tokens in whole sequences, expected at least 1000000/);
});

test('the training benchmark: models and a peer take the same steps, and are related to the matrix product', async () => {
  const configOf = (feedforward: ModelConfig['feedforward']) =>
    crammedBertConfig({ vocabularySize: 20, hiddenSize: 8, layers: 1, heads: 2, positions: 8, feedforward });
  const models = [
    { name: 'trees', config: configOf({ kind: 'fff', trees: 1, depth: 2 }) },
    { name: 'dense', config: configOf({ kind: 'dense', neurons: 12 }) },
  ];
  using backend = new ReferenceBackend();
  const seen: LabelledBatch[] = [];
  let [given, disposed] = [0, false];
  const openPeer = async (model: MaskedLanguageModel) => {
    given = model.parameters.length;
    return {
      name: 'peer',
      step: async (batch: LabelledBatch) => {
        seen.push(batch);
        return { loss: 1, milliseconds: 4 };
      },
      dispose: async () => void (disposed = true),
    };
  };
  const { rows, matrixProduct } = await benchmarkTraining(backend, { models, batch: 2, length: 8, rounds: 2, productSize: 16, openPeer });
  expect(rows.map(({ name }) => name)).toEqual(['trees', 'dense', 'peer']);
  for (const [i, { tokensPerSecond, arithmetic, share, firstLoss }] of rows.entries()) {
    expect(arithmetic).toBe(modelArithmetic(models[Math.min(i, 1)].config, 8));
    expect(tokensPerSecond.median).toBeGreaterThan(0);
    expect(share).toBeCloseTo((arithmetic * tokensPerSecond.median) / (matrixProduct.median * 1e9), 10);
    expect(firstLoss).toBeGreaterThan(0);
  }
  expect(rows[2].tokensPerSecond).toEqual({ median: 4000, low: 4000, high: 4000 });
  expect([seen.length, given > 0, disposed]).toEqual([3, true, true]);
});
