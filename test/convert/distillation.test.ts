import { describe, expect, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import type { PoolKind } from '../../src/backend/operations/pool.ts';
import { measureAgreement } from '../../src/convert/agreement.ts';
import { answerTo } from '../../src/convert/answers.ts';
import { Distillation, type Objective } from '../../src/convert/distillation.ts';
import { blockMap, createStudent, measureTeacher } from '../../src/convert/student.ts';
import { createModel, encoderOf, type Model } from '../../src/models/checkpoint.ts';
import { crammedBertConfig, type FeedforwardConfig, type ModelConfig } from '../../src/models/config.ts';
import type { Context } from '../../src/nn/parameter.ts';
import { watchLeaves } from '../../src/training/leaf_use.ts';
import { Trainer } from '../../src/training/trainer.ts';
import { DoublePrecisionDevice } from '../backend/double_precision.ts';
import { tinyBert } from '../tiny_model.ts';

const device = new DoublePrecisionDevice();
const shape = { vocabSize: 40, hiddenSize: 8, numHiddenLayers: 4, numAttentionHeads: 2, maxPositionEmbeddings: 16, initializerRange: 0.5 };
const config = crammedBertConfig({ ...shape, ...tinyBert });
const preNorm = crammedBertConfig({ ...shape, feedforward: config.feedforward });
const createTeacher = (task: Model['task'], of = config) => createModel(task, { ...of, numLabels: 3 }, device, 3);
const teacher = createTeacher('encoder');
const length = 6;
const texts = {
  batch: 5,
  length,
  ids: Int32Array.from({ length: 5 * length }, (_, i) => (i * i * 7 + i * 13) % 40),
  predicted: Int32Array.of(0, 3, 8, 14, 20, 21, 29),
};

/** `answer`: how an encoder's texts are pooled, or the task of a teacher with a head. */
async function setUp(
  feedforward: FeedforwardConfig,
  layers = 4,
  answer: PoolKind | Exclude<Model['task'], 'encoder'> = 'mean',
  of = config,
) {
  const pooling = (['mean', 'max', 'first'] as const).find((kind) => kind === answer);
  const teacher = createTeacher(pooling ? 'encoder' : (answer as Model['task']), of);
  const theirs = answerTo(teacher, pooling)!;
  const statistics = await measureTeacher(encoderOf(teacher), [texts], theirs);
  const { model, centering } = await createStudent(teacher, statistics.blocks, { feedforward, layers, seed: 1, device });
  const { stateVariance, answerVariance: variance } = statistics;
  const map = blockMap(4, layers);
  const student = encoderOf(model);
  const answers = { teacher: theirs, student: answerTo(model, pooling)!, variance, weight: 2 };
  return {
    teacher,
    answers,
    model,
    student,
    map,
    stateVariance,
    centering,
    distillation: new Distillation(encoderOf(teacher), student, { map, stateVariance, answers }),
  };
}

const infer = async <Result>(work: (context: Context) => Promise<Result>) => {
  using arena = new Arena(device);
  return await work({ device, arena, training: false });
};

test('a copy agrees in everything: no loss, R2 of 1', async () => {
  const { model, student, map, distillation } = await setUp(config.feedforward);
  using trainer = new Trainer(device, model.parameters);
  for (const objective of ['blocks', 'network'] as const)
    expect((await trainer.step([distillation.pass(texts, objective)], 1, 0)).loss).toBeCloseTo(0, 10);
  const { states, vectors, cosine, layers, tokens } = await measureAgreement(infer, encoderOf(teacher), student, { map, pooling: 'mean' }, [
    texts,
  ]);
  for (const state of states) expect(state).toBeCloseTo(1, 10);
  expect([vectors, cosine, layers, tokens]).toEqual([expect.closeTo(1, 10), expect.closeTo(1, 10), [], 30]);
});

test('with fewer blocks each is fitted from the hidden state before it to the one behind it', async () => {
  const { model, distillation, stateVariance } = await setUp(config.feedforward, 2);
  using trainer = new Trainer(device, model.parameters);
  const { loss } = await trainer.step([distillation.pass(texts, 'blocks')], 1, 0);
  // By hand: block 1 on the embedding's output to the state behind it, block 3 on that to the last one.
  using arena = new Arena(device);
  const context = { device, arena, training: false };
  const { hiddenStates } = encoderOf(teacher).forward(context, texts, { hiddenStates: true });
  const { hiddenStates: own } = encoderOf(teacher).forwardBlocks(context, texts, [
    hiddenStates[0],
    hiddenStates[0],
    hiddenStates[0],
    hiddenStates[2],
  ]);
  let expected = 0;
  for (const block of [1, 3]) {
    const [a, b] = await Promise.all([device.read(own[block + 1]), device.read(hiddenStates[block + 1])]);
    expected += a.reduce((sum, value, i) => sum + (value - b[i]) ** 2, 0) / a.length / stateVariance[block + 1];
  }
  expect(expected).toBeGreaterThan(0.01);
  expect(loss).toBeCloseTo(expected, 5);
});

test('the loss is the sum of 1 - R2 of the hidden states, and of the pooled output times its weight', async () => {
  const { model, student, map, distillation, stateVariance } = await setUp({ kind: 'none' }, 2);
  using trainer = new Trainer(device, model.parameters);
  const { loss } = await trainer.step([distillation.pass(texts, 'network')], 1, 0);
  const { states, vectors } = await measureAgreement(infer, encoderOf(teacher), student, { map, pooling: 'mean' }, [texts]);
  const ofStates = states.reduce((sum, state) => sum + 1 - state, 0);
  expect(stateVariance).toHaveLength(5);
  expect(loss).toBeCloseTo(ofStates + 2 * (1 - vectors), 6);
  const alone = new Distillation(encoderOf(teacher), student, { map, stateVariance });
  expect((await trainer.step([alone.pass(texts, 'network')], 1, 0)).loss).toBeCloseTo(ofStates, 6);
});

test.each(['masked-lm', 'sequence-classification'] as const)('logits count as hidden states do: %s', async (task) => {
  const { teacher, model, student, map, answers, distillation } = await setUp({ kind: 'none' }, 4, task);
  using trainer = new Trainer(device, model.parameters);
  const { loss } = await trainer.step([distillation.pass(texts, 'network')], 1, 0);
  const options = { map, pooling: 'mean', logits: answers } as const;
  const { states, logits } = await measureAgreement(infer, encoderOf(teacher), student, options, [texts]);
  expect(logits).toBeLessThan(0.99);
  expect(loss).toBeCloseTo(states.reduce((sum, state) => sum + 1 - state, 0) + 2 * (1 - logits!), 6);
});

describe.each<Objective>(['blocks', 'network'])('gradients of the objective %s', (objective) => {
  test.each<[string, FeedforwardConfig, number, PoolKind | Exclude<Model['task'], 'encoder'>, ModelConfig?]>([
    ['trees', { kind: 'fff', trees: 1, depth: 2, alwaysOn: 2 }, 4, 'mean'],
    ['trees of a pre-norm model', { kind: 'fff', trees: 1, depth: 2 }, 4, 'mean', preNorm],
    ['dense', { kind: 'dense', neurons: 3 }, 4, 'max'],
    ['fewer blocks', config.feedforward, 2, 'first'],
    ['a masked language model', { kind: 'fff', trees: 1, depth: 2 }, 4, 'masked-lm'],
    ['a classifier', { kind: 'none' }, 4, 'sequence-classification'],
  ])('%s: agree with finite differences', async (_, feedforward, layers, answer, of) => {
    const { model, centering, distillation } = await setUp(feedforward, layers, answer, of);
    using trainer = new Trainer(device, model.parameters, {
      adamW: { beta1: 0, beta2: 0, epsilon: 1, weightDecay: 0, clipNorm: Number.POSITIVE_INFINITY },
    });
    using arena = new Arena(device);
    const pass = distillation.pass(texts, objective);
    const context = { device, arena, training: true };
    const loss = async () => {
      // The gradient is that of layers that are centered on their inputs' means, and a block's inputs depend on the centers below.
      const centered = centering.means.some((mean) => mean !== null);
      for (let block = 0; centered && block < (objective === 'blocks' ? 1 : layers); block++) {
        arena.reset();
        pass(context, 1);
        await centering.follow(1);
      }
      for (const { gradient } of model.parameters) if (gradient) device.fill({ output: gradient, value: 0 });
      arena.reset();
      const [value] = await device.read(pass(context, 1));
      await centering.follow(0); // this pass was no step's
      return value;
    };
    await loss();
    const trained = model.parameters.filter(
      ({ name, buffer }) => !buffer && (objective === 'network' || /ffn|intermediate|norm2|output\.dense|output\.LayerNorm/.test(name)),
    );
    const gradients = new Map<(typeof trained)[number], number[]>();
    for (const parameter of trained) gradients.set(parameter, Array.from(await device.read(parameter.gradient!)));
    let checked = 0;
    for (const [parameter, gradient] of gradients) {
      const values = Float64Array.from(await device.read(parameter.value));
      const at = Math.floor(values.length * 0.37);
      const step = 2 ** -16;
      const losses = [];
      for (const sign of [1, -1]) {
        const moved = values.slice();
        moved[at] += sign * step;
        device.write(parameter.value, Array.from(moved));
        losses.push(await loss());
      }
      device.write(parameter.value, Array.from(values));
      if (objective === 'blocks' && /attention/.test(parameter.name)) expect(gradient.every((value) => value === 0)).toBe(true);
      else
        expect(Math.abs((losses[0] - losses[1]) / (2 * step) - gradient[at])).toBeLessThan(
          1e-3 * Math.max(...gradient.map(Math.abs), 1e-3),
        );
      checked++;
    }
    expect(checked).toBeGreaterThan(10);
    expect(trainer.optimizer.steps).toBe(0);
  });
});

test('thresholds draw crooked splits towards even ones', async () => {
  const { model, student, distillation } = await setUp({ kind: 'fff', trees: 2, depth: 2 });
  for (const parameter of model.parameters)
    if (parameter.name.endsWith('linear_in.bias')) device.fill({ output: parameter.value, value: 4 });
  using trainer = new Trainer(device, model.parameters);
  const used = async () => {
    using arena = new Arena(device);
    const [, leaves] = await watchLeaves({ device, arena, training: false }, (context) => student.forward(context, texts));
    return leaves.map((layer) => new Set(layer).size);
  };
  const before = await used();
  for (let step = 0; step < 200; step++) await trainer.step([distillation.pass(texts, 'network')], 1, 0, 0.1);
  const after = await used();
  after.forEach((count, layer) => {
    expect(count).toBeGreaterThanOrEqual(before[layer]);
  });
  expect(Math.min(...after)).toBeGreaterThanOrEqual(3);
});

test('the means that inputs are centered on follow the inputs', async () => {
  const { model, centering, distillation } = await setUp({ kind: 'fff', trees: 1, depth: 2 });
  const [, before] = centering.means as number[][];
  const norm = model.parameters.find(({ name }) => name.includes('layer.1.attention.output.LayerNorm.bias'))!;
  const beta = await device.read(norm.value);
  device.write(
    norm.value,
    Array.from(beta, (value) => value + 2),
  );
  using trainer = new Trainer(device, model.parameters);
  for (let step = 0; step < 300; step++) {
    await trainer.step([distillation.pass(texts, 'network')], 1, 0);
    await centering.follow();
  }
  // 1 - 0.99^300 of the way, and what the blocks before changed.
  const [, after] = centering.means as number[][];
  const moved = after.reduce((sum, mean, i) => sum + mean - before[i], 0) / after.length;
  expect(moved).toBeCloseTo(1.9, 0);
});
