import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import type { Device } from '../../src/backend/device.ts';
import { operations } from '../../src/backend/operations/operations.ts';
import { type ProductPrecision, productPrecisions } from '../../src/backend/prepared_weight.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import type { Storage } from '../../src/backend/tensor.ts';
import { InputError } from '../../src/errors.ts';
import { createMaskedLanguageModel, createSequenceClassifier, loadMaskedLanguageModel } from '../../src/models/checkpoint.ts';
import { crammedBertConfig, type ModelConfig } from '../../src/models/config.ts';
import type { MaskedLanguageModel } from '../../src/models/masked_language_model.ts';
import { AdamW } from '../../src/training/optimizer.ts';
import { candidates, describeOnEach } from '../backend/backends.ts';
import { expectClose, goldenPath, goldenTensors, tolerances } from '../goldens.ts';
import { allocateGradients } from './training.ts';

const config = crammedBertConfig({
  vocabSize: 50,
  hiddenSize: 16,
  numAttentionHeads: 2,
  numHiddenLayers: 2,
  maxPositionEmbeddings: 12,
  feedforward: { kind: 'fff', trees: 2, depth: 3 },
  initializerRange: 0.3,
  numLabels: 2,
});
const batch = { batch: 3, length: 12, ids: Int32Array.from({ length: 36 }, (_, i) => (i * 7 + 3) % 50) };
const labels = Int32Array.from({ length: 36 }, (_, i) => (i % 4 === 1 ? (i * 11) % 50 : -100));

describe('memory', () => {
  class CountingDevice extends ReferenceDevice {
    allocations = 0;
    override allocate(bytes: number): Storage {
      this.allocations++;
      return super.allocate(bytes);
    }
  }
  const bert: ModelConfig = {
    ...config,
    family: 'bert',
    typeVocabSize: 2,
    bias: { queryKeyValue: true, dense: true },
    feedforward: { kind: 'dense', neurons: 24 },
  };

  test.each([config, bert])('nothing is allocated after the first step and the first evaluation ($family)', async (config) => {
    using device = new CountingDevice();
    using model = createMaskedLanguageModel(config, device, 1);
    using optimizer = new AdamW(device, model.parameters);
    using arena = new Arena(device);
    using clip = device.tensor('clip', [2]);
    const round = async (step: number) => {
      arena.reset();
      model.lossAndGradients({ device, arena, training: true, dropout: { seed: 1, step } }, { ...batch, labels });
      optimizer.step(1e-3, clip);
      arena.reset();
      await model.losses({ device, arena, training: false }, { ...batch, labels });
      arena.reset();
      await device.read(model.logits({ device, arena, training: false }, batch));
    };
    await round(0);
    const { allocations } = device;
    const { bytes } = arena;
    for (let step = 1; step < 5; step++) await round(step);
    expect(device.allocations).toBe(allocations);
    expect(arena.bytes).toBe(bytes);
  });

  test('inference needs no more for more layers', async () => {
    const bytes = [];
    for (const layers of [2, 6]) {
      using device = new ReferenceDevice();
      using model = createMaskedLanguageModel({ ...config, numHiddenLayers: layers }, device, 1);
      using arena = new Arena(device);
      await device.read(model.logits({ device, arena, training: false }, batch));
      bytes.push(arena.bytes);
    }
    expect(bytes[1]).toBe(bytes[0]);
  });
});

describe('freezing', () => {
  test('frozen parameters get no gradient, and frozen blocks below the trained ones cost nothing', async () => {
    const operations: string[] = [];
    class RecordingDevice extends ReferenceDevice {
      override enqueue(...[operation, operands, numbers]: Parameters<ReferenceDevice['enqueue']>): void {
        operations.push(operation);
        super.enqueue(operation, operands, numbers);
      }
    }
    using device = new RecordingDevice();
    using model = createSequenceClassifier(config, device, 1);
    using arena = new Arena(device);
    const context = { device, arena, training: true };
    allocateGradients(device, model.parameters);
    const visits = () => {
      arena.reset();
      operations.length = 0;
      model.lossAndGradients(context, { ...batch, labels: Int32Array.of(0, 1, 1) });
      return operations.filter((operation) => operation === 'fffBackward').length;
    };
    expect(visits()).toBe(2);
    for (const parameter of model.encoder.parameters) parameter.frozen = !/layers\.1\.|final_norm/.test(parameter.name);
    for (const parameter of model.parameters) device.fill({ output: parameter.gradient!, value: 0 });
    expect(visits()).toBe(1);
    expect(operations).not.toContain('embeddingBackward');
    for (const parameter of model.parameters.filter(({ buffer }) => !buffer)) {
      const gradient = await device.read(parameter.gradient!);
      expect(
        gradient.some((value) => value !== 0),
        parameter.name,
      ).toBe(!parameter.frozen);
    }
    for (const parameter of model.encoder.parameters) parameter.frozen = true;
    expect(visits()).toBe(0);
  });
});

describe('what does not fit the model is refused before anything runs', () => {
  const device = new ReferenceDevice();
  const model = createMaskedLanguageModel(config, device, 1);
  const context = { device, arena: new Arena(device), training: false };
  const ids = (...values: number[]) => ({ batch: 1, length: values.length, ids: Int32Array.from(values) });

  test.each<[string, () => unknown, RegExp]>([
    ['an id outside of the vocabulary', () => model.logits(context, ids(3, 50)), /token id 50 at token 1 is not one of the model's 50/],
    ['a negative id', () => model.logits(context, ids(-1)), /token id -1 at token 0/],
    [
      'too long a sequence',
      () => model.logits(context, ids(...new Array(13).fill(1))),
      /13 tokens is longer than the model's 12 positions/,
    ],
    ['an empty batch', () => model.logits(context, ids()), /'length' is 0/],
    [
      'ids that do not fill the batch',
      () => model.logits(context, { ...ids(1, 2), batch: 2 }),
      /'ids' has 2 values, expected batch x length = 4/,
    ],
    [
      'a mask of another size',
      () => model.logits(context, { ...ids(1, 2), attentionMask: Int32Array.of(1) }),
      /'attentionMask' has 1 values/,
    ],
    ['a position outside of the batch', () => model.logits(context, ids(1, 2), Int32Array.of(2)), /position 2 is not one of the batch's 2/],
    [
      'a label outside of the vocabulary',
      () => model.lossAndGradients(context, { ...ids(1), labels: Int32Array.of(50) }),
      /label 50 at token 0/,
    ],
    ['labels of another size', () => model.lossAndGradients(context, { ...ids(1), labels: Int32Array.of(1, 2) }), /'labels' has 2 values/],
  ])('%s', (_, attempt, message) => {
    expect(attempt).toThrow(InputError);
    expect(attempt).toThrow(message);
  });

  test('a class that there is not', () => {
    const classifier = createSequenceClassifier(config, device, 1);
    expect(() => classifier.lossAndGradients(context, { ...ids(1), labels: Int32Array.of(2) })).toThrow(
      /label 2 of sequence 0 is not one of 2 classes/,
    );
    expect(() => createSequenceClassifier({ ...config, numLabels: undefined }, device, 1)).toThrow(InputError);
  });

  test('nothing to predict is no error', async () => {
    const nothing = { ...ids(1, 2), labels: Int32Array.of(-100, -100) };
    expect(model.lossAndGradients(context, nothing).size).toBe(0);
    expect((await model.losses(context, nothing)).losses).toHaveLength(0);
  });
});

test('hidden states are the same whether kept for training or asked for', async () => {
  using device = new ReferenceDevice();
  using model = createMaskedLanguageModel(config, device, 1);
  const states = async (training: boolean) => {
    const context = { device, arena: new Arena(device), training };
    const { hiddenStates } = model.encoder.forward(context, batch, { hiddenStates: true });
    return Promise.all(hiddenStates.map((state) => device.read(state)));
  };
  const asked = await states(false);
  expect(asked).toHaveLength(config.numHiddenLayers + 1);
  expect(asked).toEqual(await states(true));
  const context = { device, arena: new Arena(device), training: false };
  expect(model.encoder.forward(context, batch).hiddenStates).toHaveLength(0);
});

const postNorm = { family: 'ultrafastbert', typeVocabSize: 2, bias: { queryKeyValue: true, dense: true } };

test.each([
  ['pre-norm', config],
  ['post-norm', { ...config, ...postNorm }],
  ['post-norm, attention alone', { ...config, ...postNorm, feedforward: { kind: 'none' } }],
] as [string, ModelConfig][])(
  'the output is the same whether hidden states are kept or one buffer goes through all blocks: %s',
  async (_, config) => {
    using device = new ReferenceDevice();
    using model = createMaskedLanguageModel(config, device, 1);
    const output = (hiddenStates: boolean) => {
      const context = { device, arena: new Arena(device), training: false };
      return device.read(model.encoder.forward(context, batch, { hiddenStates }).output);
    };
    expect(await output(false)).toEqual(await output(true));
  },
);

describe('what attention multiplies in', () => {
  class RecordingDevice extends ReferenceDevice {
    readonly precisions: ProductPrecision[] = [];
    constructor(private readonly faster: boolean) {
      super();
    }
    override get multipliesBf16(): boolean {
      return this.faster;
    }
    override enqueue(...call: Parameters<ReferenceDevice['enqueue']>): void {
      const [name, , numbers] = call;
      if (name === 'attention' || name === 'attentionBackward')
        this.precisions.push(productPrecisions[numbers[operations[name].numbers.indexOf('precision')]]);
      super.enqueue(...call);
    }
  }

  test.each([
    ['f32', false, 'f32'],
    ['f32', true, 'f32'],
    ['bf16', false, 'f32'],
    ['bf16', true, 'bf16'],
    ['i8', false, 'f32'],
    ['i8', true, 'bf16'],
  ] as const)('weights in %s, bf16 faster: %s', (dtype, multipliesBf16, expected) => {
    using device = new RecordingDevice(multipliesBf16);
    using model = createMaskedLanguageModel(config, device, 1);
    for (const parameter of model.parameters) parameter.prepare(dtype);
    model.encoder.forward({ device, arena: new Arena(device), training: false }, batch);
    expect(device.precisions).toEqual([expected, expected]);
  });

  test.each(['f32', 'bf16'] as const)('training in %s, forward and backward', (precision) => {
    using device = new RecordingDevice(false);
    using model = createMaskedLanguageModel(config, device, 1);
    allocateGradients(device, model.parameters);
    model.lossAndGradients({ device, arena: new Arena(device), training: true, precision }, { ...batch, labels });
    expect(device.precisions).toEqual(Array(2 * config.numHiddenLayers).fill(precision));
  });
});

test('many logits are made block by block, with the same result', { timeout: 60_000 }, async () => {
  using device = new ReferenceDevice();
  const large = { ...config, vocabSize: 2 ** 15, hiddenSize: 4, numHiddenLayers: 1 };
  using model = createMaskedLanguageModel(large, device, 1);
  using arena = new Arena(device);
  allocateGradients(device, model.parameters);
  const [word] = model.parameters;
  // 528 predicted positions: 512 rows of logits fill a block.
  const [sequences, length] = [44, 12];
  const ids = Int32Array.from({ length: sequences * length }, (_, i) => (i * 7919 + 3) % 2 ** 15);
  const run = async (count: number, first = 0) => {
    const part = ids.subarray(first * length, (first + count) * length);
    arena.reset();
    return device.read(model.lossAndGradients({ device, arena, training: true }, { batch: count, length, ids: part, labels: part }));
  };
  const losses = await run(sequences);
  const gradient = await device.read(word.gradient!);
  for (const { gradient } of model.parameters) device.fill({ output: gradient!, value: 0 });
  expectClose('losses', [...(await run(40)), ...(await run(4, 40))], losses, 1e-6);
  expectClose('word gradient', await device.read(word.gradient!), gradient, 1e-5);
  expect(arena.bytes).toBeLessThan(2 ** 26 + 2 ** 20);
});

describeOnEach(candidates, ({ create }) => {
  let device: Device;
  let model: MaskedLanguageModel;
  beforeAll(async () => {
    device = create();
    model = await loadMaskedLanguageModel(goldenPath('crammed-bert-fff'), device);
  });
  afterAll(() => device?.dispose());

  test('a batch answers as its sequences alone do', async () => {
    const golden = await goldenTensors('crammed-bert-fff', 'forward.safetensors');
    const [batch, length] = golden.shape('input_ids');
    const ids = golden.integers('input_ids');
    using arena = new Arena(device);
    const context = { device, arena, training: false };
    const together = golden.floats('logits');
    for (let sequence = 0; sequence < batch; sequence++) {
      arena.reset();
      const alone = await device.read(
        model.logits(context, { batch: 1, length, ids: ids.subarray(sequence * length, (sequence + 1) * length) }),
      );
      expectClose(
        `sequence ${sequence}`,
        alone,
        together.subarray(sequence * alone.length, (sequence + 1) * alone.length),
        tolerances.output,
      );
    }
  });

  test('ranks count the tokens rated above the right one', async () => {
    const golden = await goldenTensors('crammed-bert-fff', 'forward.safetensors');
    const [batch, length] = golden.shape('input_ids');
    const vocabulary = model.config.vocabSize;
    using arena = new Arena(device);
    const labels = golden.integers('labels');
    const inputs = { batch, length, ids: golden.integers('input_ids'), labels };
    const { ranks, losses } = await model.losses({ device, arena, training: false }, inputs);
    const logits = golden.floats('logits');
    const positions = [...labels.keys()].filter((position) => labels[position] >= 0);
    expect(losses).toHaveLength(positions.length);
    positions.forEach((position, i) => {
      const row = [...logits.subarray(position * vocabulary, (position + 1) * vocabulary)];
      expect(ranks[i]).toBe(row.filter((value) => value > row[labels[position]]).length);
    });
  });

  test('dropout repeats with its seed and step, and only then', async () => {
    using arena = new Arena(device);
    const losses = async (seed: number, step: number) => {
      arena.reset();
      return device.read(model.lossAndGradients({ device, arena, training: true, dropout: { seed, step } }, { ...batch, labels }));
    };
    const first = await losses(1, 1);
    expect(await losses(1, 1)).toEqual(first);
    expect(await losses(1, 2)).not.toEqual(first);
    expect(await losses(2, 1)).not.toEqual(first);
  });
});
