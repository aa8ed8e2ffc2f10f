import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { operations } from '../../src/backend/operations/operations.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import type { Tensor } from '../../src/backend/tensor.ts';
import { benchmarkConditionalMatmul } from '../../src/bench/conditional_matmul.ts';
import { contest } from '../../src/bench/contest.ts';
import { benchmarkDepth } from '../../src/bench/depth.ts';
import { benchmarkLayer } from '../../src/bench/layer.ts';
import { benchmarkConfig, benchmarkModel } from '../../src/bench/model.ts';
import { readModelLayer } from '../../src/bench/model_layer.ts';
import type { OnnxFeed } from '../../src/bench/peers.ts';
import { randomTrees, treeLayer } from '../../src/bench/queued_layers.ts';
import { benchmarkScaling, neuronsInTime } from '../../src/bench/scaling.ts';
import { summarize } from '../../src/bench/timing.ts';
import { benchmarkTraining, modelArithmetic } from '../../src/bench/training.ts';
import { largestError, randomTokens } from '../../src/bench/work.ts';
import { loadModel, saveCheckpoint } from '../../src/models/checkpoint.ts';
import { crammedBertConfig, type ModelConfig } from '../../src/models/config.ts';
import type { LabeledBatch } from '../../src/models/language_model.ts';
import type { MaskedLanguageModel } from '../../src/models/masked_language_model.ts';
import { temporaryFolder } from '../temporary.ts';
import { generatedSentences, writeTinyModel } from '../tiny_model.ts';

test('timings are summarized by median and quartiles, in any order', () => {
  expect(summarize([5, 1, 4, 2, 3])).toEqual({ median: 3, low: 2, high: 4 });
  expect(summarize([1, 2])).toEqual({ median: 1.5, low: 1.25, high: 1.75 });
  expect(summarize([7])).toEqual({ median: 7, low: 7, high: 7 });
});

describe('model arithmetic', () => {
  const shape = { vocabSize: 8192, hiddenSize: 256, numHiddenLayers: 6, numAttentionHeads: 4 };

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

test('contestants take turns, each as often a round as fits; who spins rests before the next, and all come after all', async () => {
  const turns: string[] = [];
  const contestant = (name: string) => ({
    run: async (times: number) => {
      turns.push(name);
      for (let i = 0; i < times; i++) await Promise.resolve();
    },
  });
  const spins = { ...contestant('d'), rest: async () => void turns.push('rest') };
  const contestants = [...['a', 'b', 'c'].map(contestant), spins];
  expect(await contest(contestants, { rounds: 4, roundMilliseconds: 0.01 })).toHaveLength(4);
  const [warmUp, ...rounds] = [turns.slice(0, -20), ...[20, 15, 10, 5].map((end) => turns.slice(-end).slice(0, 5))];
  expect(warmUp.at(-1)).toBe('rest');
  const pairs = rounds.flatMap((round) => {
    expect([...round].sort()).toEqual(['a', 'b', 'c', 'd', 'rest']);
    expect(round[round.indexOf('d') + 1]).toBe('rest');
    const order = round.filter((name) => name !== 'rest');
    return order.slice(1).map((name, i) => `${name} after ${order[i]}`);
  });
  expect(new Set(pairs).size).toBe(4 * 3);
});

test('onnxruntime rests after its turns', async () => {
  let rests = 0;
  const session = {
    run: async ({ x }: Readonly<Record<string, OnnxFeed>>) => new Float32Array(x.values.length),
    rest: async () => void rests++,
    release: async () => {},
  };
  const onnxRuntime = { name: 'onnxruntime', session: async () => session, decoder: () => Promise.reject(new Error('not measured')) };
  using device = new ReferenceDevice();
  const common = { rounds: 1, roundMilliseconds: 0.1, batches: [1], dtypes: ['f32'] as const, onnxRuntime };
  await benchmarkLayer(device, { ...common, layers: [randomTrees({ width: 4, trees: 1, depth: 1 })], tokens: randomTokens(4, [1]) });
  // Dense and trees: after the warm-up, and after the round.
  expect(rests).toBe(4);
  const config = benchmarkConfig({ layers: 1, width: 4, heads: 1, neurons: 3, length: 2 });
  await benchmarkModel(device, { ...common, config, other: { kind: 'fff', trees: 1, depth: 1 }, length: 2 });
  expect(rests).toBe(6);
});

test('an error is a share of the largest value, of the tokens that something is expected of', () => {
  expect(largestError('it', Float32Array.of(-8, 1, 7), Float32Array.of(-10, 0))).toBeCloseTo(0.2, 6);
  expect(() => largestError('it', Float32Array.of(1), Float32Array.of(1, 2))).toThrow('1 values to be compared with 2');
});

/** Goes wrong where a layer sees more than eight tokens: half of what one of them gets is this value. */
class WrongInLargeCalls extends ReferenceDevice {
  constructor(
    private readonly value: number,
    private readonly token: number,
  ) {
    super();
  }

  override enqueue(...call: Parameters<ReferenceDevice['enqueue']>): void {
    super.enqueue(...call);
    const [name, operands] = call;
    if (name !== 'fff' && name !== 'conditionalMatmul') return;
    const output = operands[Object.keys(operations[name].operands).indexOf('output')];
    this.spoil(output as Tensor);
  }

  private spoil(output: Tensor): void {
    const [tokens, width] = output.shape;
    if (tokens > 8) this.fill({ output: output.view([width / 2], this.token * width), value: this.value });
  }
}

describe('outputs are compared of calls of the measured size', () => {
  const short = { rounds: 1, roundMilliseconds: 0.1, batches: [2, 20] };
  const dtypes = ['f32'] as const;
  const shape = { width: 8, trees: 1, depth: 2 };
  /** Errors of ours, for a call of at most 8 tokens and for one of 20. */
  const benchmarks: Record<string, (device: ReferenceDevice) => Promise<number[]>> = {
    async layer(device) {
      const results = await benchmarkLayer(device, {
        ...short,
        dtypes,
        layers: [randomTrees(shape)],
        tokens: randomTokens(8, short.batches),
      });
      return results.map(({ maxRelativeError }) => maxRelativeError);
    },
    async 'conditional product'(device) {
      const results = await benchmarkConditionalMatmul(device, { ...short, width: 8, neurons: 16, blockSizes: [2], chosen: [4] });
      return results.map(({ maxRelativeError }) => maxRelativeError);
    },
    async scaling(device) {
      const results = await benchmarkScaling(device, { ...short, dtype: 'f32', points: [shape] });
      return results.map(({ treesError }) => treesError);
    },
    async model(device) {
      const config = benchmarkConfig({ layers: 1, width: 8, heads: 2, neurons: 12, length: 5 });
      const other = { kind: 'fff' as const, trees: 1, depth: 2 };
      const rows = await benchmarkModel(device, { ...short, dtypes, config, other, length: 5, batches: [1, 4] });
      return rows.filter(({ name }) => name === 'ours 1x2').map(({ relativeError }) => relativeError);
    },
  };

  test.each(Object.entries(benchmarks))('%s', async (_, errorsOf) => {
    using wrong = new WrongInLargeCalls(1, 0);
    const [small, large] = await errorsOf(wrong);
    expect(small).toBe(0);
    expect(large).toBeGreaterThan(0.01);
    // Whatever token it is.
    using notANumber = new WrongInLargeCalls(Number.NaN, 19);
    await expect(errorsOf(notANumber)).rejects.toThrow(/^(ours|the layer).*: its output has values that are no finite numbers$/);
  });
});

test('the depth benchmark times every depth, by turns', async () => {
  const seen: number[] = [];
  using device = new (class extends ReferenceDevice {
    override enqueue(...call: Parameters<ReferenceDevice['enqueue']>): void {
      const [name, , numbers] = call;
      if (name === 'fff') seen.push(numbers[operations.fff.numbers.indexOf('depth')]);
      super.enqueue(...call);
    }
  })();
  const results = await benchmarkDepth(device, { width: 6, batch: 20, batches: 1, depths: [0, 2], rounds: 3 });
  expect(results.map(({ depth, neurons, bytes }) => [depth, neurons, bytes])).toEqual([
    [0, 1, 52],
    [2, 7, 364],
  ]);
  // Once for the caches, and once for the time.
  expect(seen).toEqual([0, 0, 2, 2, 0, 0, 2, 2, 0, 0, 2, 2]);
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
    using device = new ReferenceDevice();
    const points = [
      { trees: 1, depth: 2, width: 8 },
      { trees: 3, depth: 1, width: 8 },
      { trees: 1, depth: 2, width: 4 },
    ];
    const results = await benchmarkScaling(device, { points, batches: [2], dtype: 'f32', rounds: 1, roundMilliseconds: 0.1 });
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

test.each([
  ['at 0', 0],
  ['of their own', 1],
])("a model's layer and what it takes in of a text: its trees walk the paths that the model walks, thresholds %s", async (_, size) => {
  const folder = temporaryFolder();
  await writeTinyModel(folder);
  using device = new ReferenceDevice();
  {
    using model = await loadModel(folder, device);
    for (const { buffer, value } of model.parameters)
      if (buffer)
        device.write(
          value,
          Float32Array.from({ length: value.size }, (_, node) => size * Math.sin(5 * node + 1)),
        );
    await saveCheckpoint(folder, model);
  }
  const text = join(folder, 'text.txt');
  writeFileSync(text, generatedSentences().join('\n'));
  const { layer, tree, tokens, leavesReached, leaves } = await readModelLayer(device, { model: folder, text, tokens: 100 });
  expect([layer, tree.trees, tree.depth, tree.width, tokens.values.length, leaves]).toEqual([1, 1, 3, 16, 128 * 16, 8]);
  using input = device.tensor('input', [128, 16], 'f32', tokens.values);
  using nodes = device.tensor('nodes', [15, 32], 'f32', tree.nodes);
  using bias = device.tensor('bias', [15], 'f32', tree.bias);
  using thresholds = device.tensor('thresholds', [7], 'f32', tree.thresholds);
  using output = device.tensor('output', [128, 16]);
  using pathNodes = device.tensor('pathNodes', [128, 1, 4], 'i32');
  device.fff({ input, nodes, bias, thresholds, trees: 1, depth: 3, output, pathNodes });
  expect(new Set((await device.readIntegers(pathNodes)).filter((_, i) => i % 4 === 3)).size).toBe(leavesReached);
  // And these are the paths that are timed.
  using timed = device.tensor('output', [128, 16]);
  for (const precision of ['f32', 'bf16'] as const) {
    const measured = treeLayer(device, tree, precision);
    measured.call({ x: input }, timed);
    expect(largestError(precision, await device.read(timed), await device.read(output))).toBeLessThan(precision === 'f32' ? 1e-12 : 0.02);
    measured.dispose();
  }
  const reading = (changes: object) => readModelLayer(device, { model: folder, text, tokens: 100, ...changes });
  await expect(reading({ layer: 2 })).rejects.toThrow(/--layer 2: .* has layers 0 to 1/);
  await expect(reading({ tokens: 1e6 })).rejects.toThrow(/text\.txt: has \d+ tokens in whole sequences, expected at least 1000000/);
});

test('the training benchmark: models and a peer take the same steps, and are related to the matrix product', async () => {
  const configOf = (feedforward: ModelConfig['feedforward']) =>
    crammedBertConfig({ vocabSize: 20, hiddenSize: 8, numHiddenLayers: 1, numAttentionHeads: 2, maxPositionEmbeddings: 8, feedforward });
  const models = [
    { name: 'trees', config: configOf({ kind: 'fff', trees: 1, depth: 2 }) },
    { name: 'dense', config: configOf({ kind: 'dense', neurons: 12 }) },
  ];
  using device = new ReferenceDevice();
  const seen: LabeledBatch[] = [];
  let [given, rests, disposed] = [0, 0, false];
  const openPeer = async (model: MaskedLanguageModel) => {
    given = model.parameters.length;
    return {
      name: 'peer',
      step: async (batch: LabeledBatch) => {
        seen.push(batch);
        return { loss: 1, milliseconds: 4 };
      },
      rest: async () => void rests++,
      dispose: async () => void (disposed = true),
    };
  };
  const { rows, matrixProduct } = await benchmarkTraining(device, { models, batch: 2, length: 8, rounds: 2, productSize: 16, openPeer });
  expect(rows.map(({ name }) => name)).toEqual(['trees', 'dense', 'peer']);
  for (const [i, { tokensPerSecond, arithmetic, share, firstLoss }] of rows.entries()) {
    expect(arithmetic).toBe(modelArithmetic(models[Math.min(i, 1)].config, 8));
    expect(tokensPerSecond.median).toBeGreaterThan(0);
    expect(share).toBeCloseTo((arithmetic * tokensPerSecond.median) / (matrixProduct.median * 1e9), 10);
    expect(firstLoss).toBeGreaterThan(0);
  }
  expect(rows[2].tokensPerSecond).toEqual({ median: 4000, low: 4000, high: 4000 });
  expect([seen.length, rests, given > 0, disposed]).toEqual([3, 3, true, true]);
});
