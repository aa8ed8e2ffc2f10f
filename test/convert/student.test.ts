import { beforeAll, describe, expect, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { answerTo } from '../../src/convert/answers.ts';
import { CenteredFeedforward } from '../../src/convert/centered_feedforward.ts';
import { blockMap, createStudent, measureTeacher, type TeacherStatistics } from '../../src/convert/student.ts';
import { createModel, encoderOf, type Model } from '../../src/models/checkpoint.ts';
import { crammedBertConfig, type FeedforwardConfig, type ModelConfig } from '../../src/models/config.ts';
import { exportParameter } from '../../src/nn/parameter_arrays.ts';
import { watchLeaves } from '../../src/training/leaf_use.ts';
import { tinyBert } from '../tiny_model.ts';

const device = new ReferenceDevice();
const shape = { vocabSize: 40, hiddenSize: 16, numHiddenLayers: 4, numAttentionHeads: 2, maxPositionEmbeddings: 32, initializerRange: 0.3 };
const bert = crammedBertConfig({ ...shape, ...tinyBert });
const crammed = crammedBertConfig({ ...shape, feedforward: { kind: 'dense', neurons: 24 } });
const batch = { batch: 16, length: 20, ids: Int32Array.from({ length: 320 }, (_, i) => (i * i * 7 + i * 13) % 40) };

test('the blocks that are kept are evenly spread, the last among them', () => {
  expect([6, 3, 2, 1, 4].map((layers) => blockMap(6, layers))).toEqual([[0, 1, 2, 3, 4, 5], [1, 3, 5], [2, 5], [5], [1, 2, 4, 5]]);
});

const outputOf = async (model: Model) => {
  using arena = new Arena(device);
  return device.read(encoderOf(model).forward({ device, arena, training: false }, batch).output);
};

describe.each<[string, ModelConfig]>([
  ['BERT', bert],
  ['crammedBERT', crammed],
])('%s', (_, config) => {
  const teacher = createModel('encoder', config, device, 3);
  let statistics: TeacherStatistics;
  beforeAll(async () => {
    statistics = await measureTeacher(encoderOf(teacher), [batch], answerTo(teacher, 'mean'));
  });
  const student = (feedforward: FeedforwardConfig, layers = 4) =>
    createStudent(teacher, statistics.blocks, { feedforward, layers, seed: 1, device });

  test('statistics are those of what the layers take in and give', async () => {
    using arena = new Arena(device);
    const { hiddenStates, blocks } = encoderOf(teacher).forward({ device, arena, training: true }, batch);
    const { norm1, norm2 } = blocks[1];
    const input = await device.read((config.family === 'bert' ? norm1 : norm2)!.output);
    const column = (values: Float32Array, i: number) => Array.from(values).filter((_, at) => at % 16 === i);
    const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
    expect(statistics.blocks[1].inputMean[3]).toBeCloseTo(mean(column(input, 3)), 5);
    const variance = (values: number[]) => mean(values.map((value) => (value - mean(values)) ** 2));
    expect(statistics.blocks[1].inputVariance[3]).toBeCloseTo(variance(column(input, 3)), 5);
    const state = await device.read(hiddenStates[2]);
    const variances = Array.from({ length: 16 }, (_, i) => variance(column(state, i)));
    expect(statistics.stateVariance[2]).toBeCloseTo(mean(variances), 5);
    expect(statistics.answerVariance).toBeGreaterThan(0);
    expect(statistics.answerVariance).toBeLessThan(statistics.stateVariance[4]);
  });

  test('the same layers: the same model', async () => {
    const { model, added } = await student(config.feedforward);
    expect(added).toEqual([]);
    expect(await outputOf(model)).toEqual(await outputOf(teacher));
  });

  test('fewer blocks are copies of those that they stand for', async () => {
    const { model, added } = await student(config.feedforward, 2);
    expect(added).toEqual([]);
    const [kept, original] = [model, teacher].map((of) =>
      of.parameters.filter(({ name }) => /layers?\.\d+\..*(up|dense_in|intermediate)/.test(name)),
    );
    const half = kept.length / 2;
    expect(await exportParameter(kept[half])).toEqual(
      (await exportParameter(original[3 * half])).map(({ name, ...rest }) => ({ ...rest, name: name.replace('.3.', '.1.') })),
    );
  });

  test('trees split their tokens evenly from the start, and add little', async () => {
    const { model, added } = await student({ kind: 'fff', trees: 2, depth: 2 });
    expect(added.map(({ name }) => name).filter((name) => !/linear_in|thresholds/.test(name))).toEqual([]);
    expect(added).toHaveLength(4 * 3); // nodes, biases and thresholds of each
    expect(model.config.family).toBe(config.family === 'bert' ? 'ultrafastbert' : 'crammedBERT');
    using arena = new Arena(device);
    const [, leaves] = await watchLeaves({ device, arena, training: false }, (context) => encoderOf(model).forward(context, batch));
    const counts = new Int32Array(8);
    leaves[0].forEach((leaf, walk) => {
      counts[(walk % 2) * 4 + leaf - 3]++;
    });
    for (const count of counts) expect(count).toBeGreaterThan(320 / 40);
    if (config.family !== 'bert') return;
    // The layer's mean is there without the trees: a block without feedforward is nearer to the teacher with it than without.
    const none = await student({ kind: 'none' });
    const bare = createModel('encoder', none.model.config, device, 1);
    for (const parameter of bare.parameters) {
      const source = teacher.parameters.find(({ name }) => name.replace('bert.', '') === parameter.name);
      if (source) device.copy({ input: source.value, output: parameter.value });
    }
    const expected = await outputOf(teacher);
    const distance = (values: Float32Array) => values.reduce((sum, value, i) => sum + (value - expected[i]) ** 2, 0);
    expect(distance(await outputOf(none.model))).toBeLessThan(distance(await outputOf(bare)));
  });

  test.each<FeedforwardConfig>([
    { kind: 'fff', trees: 2, depth: 2 },
    { kind: 'fff', trees: 1, depth: 1, leafWidth: 3, alwaysOn: 2 },
    { kind: 'dense', neurons: 5 },
  ])('$kind layers on centered inputs compute what the plain ones do that they are folded into', async (feedforward) => {
    const { model, centering } = await student(feedforward);
    const ofLayers = model.parameters.filter(({ name }) => /linear_in|dense_in|intermediate/.test(name));
    const values = () => Promise.all(ofLayers.map(({ value }) => device.read(value)));
    const isCentered = () => encoderOf(model).blocks.map(({ layers }) => layers.feedforward instanceof CenteredFeedforward);
    const [centered, before] = [await outputOf(model), await values()];
    expect(isCentered()).toEqual(centering.means.map((mean) => mean !== null));
    await centering.folded(async () => {
      expect(isCentered()).not.toContain(true);
      const plain = await outputOf(model);
      plain.forEach((value, i) => {
        expect(value).toBeCloseTo(centered[i], 4);
      });
      const biased = config.family === 'bert' || (feedforward.kind === 'fff' && !feedforward.alwaysOn);
      if (biased) expect(await values()).not.toEqual(before);
      else expect(await values()).toEqual(before);
    });
    expect(await values()).toEqual(before);
    expect(await outputOf(model)).toEqual(centered);
  });

  test.each<FeedforwardConfig>([
    { kind: 'dense', neurons: 5 },
    { kind: 'fff', trees: 1, depth: 2, alwaysOn: 3 },
  ])('$kind with layers that have a bias of their own start from the mean', async (feedforward) => {
    const { model } = await student(feedforward);
    const bias = model.parameters.find(({ name }) => /(layer\.1\.output\.dense|dense_out)\.bias/.test(name));
    if (config.family === 'bert') {
      const [{ values }] = await exportParameter(
        model.parameters.find(({ name }) => /layer\.1\.(output\.dense|ffn\.dense_out)\.bias/.test(name))!,
      );
      expect(values[2]).toBeCloseTo(statistics.blocks[1].outputMean[2], 5);
    } else expect(bias).toBeUndefined();
  });
});
