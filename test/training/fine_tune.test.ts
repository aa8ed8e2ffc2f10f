import { describe, expect, onTestFinished, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import type { Device } from '../../src/backend/device.ts';
import { createSequenceClassifier } from '../../src/models/checkpoint.ts';
import { crammedBertConfig } from '../../src/models/config.ts';
import { exportParameter } from '../../src/nn/parameter_arrays.ts';
import { type FineTuningOptions, type FineTuningProgress, type FineTuningSession, fineTune } from '../../src/training/fine_tune.ts';
import { LeafCounts, watchLeaves } from '../../src/training/leaf_use.ts';
import { scoresOf } from '../../src/training/metrics.ts';
import type { AdamW } from '../../src/training/optimizer.ts';
import { candidates, describeOnEach } from '../backend/backends.ts';

/** Texts of several lengths; their class is whether token 7 occurs, their score how often. */
function examples(count: number, labels: number) {
  return Array.from({ length: count }, (_, index) => {
    const ids = Array.from({ length: 3 + ((index * 5) % 6) }, (_, at) => 5 + ((index * index + at * 7 + (index >> 2)) % 12));
    const sevens = ids.filter((id) => id === 7).length;
    return { ids, typeIds: ids.map(() => 0), label: labels === 1 ? sevens : Math.min(sevens, labels - 1) };
  });
}

function setUp(device: Device, labels: number, { pooler = 'first', dropout }: { pooler?: 'first' | 'mean'; dropout?: number } = {}) {
  const model = createSequenceClassifier(
    crammedBertConfig({
      vocabSize: 20,
      hiddenSize: 16,
      numAttentionHeads: 2,
      numHiddenLayers: 1,
      maxPositionEmbeddings: 16,
      numLabels: labels,
      initializerRange: 0.15,
      pooler: { kind: pooler, size: 16 },
      feedforward: { kind: 'fff', trees: 1, depth: 2 },
      ...(dropout !== undefined && { dropout: { embedding: dropout, hidden: dropout, attention: dropout, classifier: dropout } }),
    }),
    device,
    1,
  );
  onTestFinished(() => {
    model.dispose();
    device.dispose();
  });
  return model;
}

const options: FineTuningOptions = { epochs: 4, batch: 4, learningRate: 3e-3, length: 16, seed: 5 };
const weightsOf = async (model: ReturnType<typeof setUp>) =>
  (await Promise.all(model.parameters.map((parameter) => exportParameter(parameter)))).flat().map(({ values }) => values);

describeOnEach(candidates, ({ create }) => {
  test.each([
    { labels: 2, metric: 'accuracy', least: 0.9 },
    { labels: 1, metric: 'spearman', least: 0.8 },
  ])('learns $labels labels', async ({ labels, metric, least }) => {
    const device = create();
    const model = setUp(device, labels);
    const training = examples(120, labels);
    const result = await fineTune(model, { training, validation: training }, { ...options, epochs: 15, learningRate: 1e-2 }, { device });
    expect(result.finished).toBe(true);
    expect(result.epochs).toHaveLength(15);
    expect(result.epochs.at(-1)!.loss).toBeLessThan(result.epochs[0].loss);
    expect(Math.max(...result.epochs.map(({ scores }) => scores[metric]))).toBeGreaterThan(least);
  });
});

const reference = candidates.find(({ label }) => label.startsWith('reference'))!;

describe('a fine-tuning', () => {
  test.each(['first', 'mean'] as const)('sees every example once an epoch, in another order each time; pooling %s', async (pooler) => {
    const device = reference.create();
    const model = setUp(device, 2, { pooler });
    const training = examples(30, 2);
    const seen: { length: number; labels: number[] }[] = [];
    const original = model.lossAndGradients.bind(model);
    model.lossAndGradients = (context, batch, scale) => {
      seen.push({ length: batch.length, labels: Array.from(batch.ids) });
      if (pooler === 'mean') expect(batch.attentionMask).toBeUndefined();
      return original(context, batch, scale);
    };
    const rates: number[] = [];
    const { tokens, step } = await fineTune(
      model,
      { training, validation: training },
      { ...options, epochs: 2 },
      { device, onStep: ({ learningRate }) => rates.push(learningRate) },
    );
    const all = training.reduce((sum, { ids }) => sum + ids.length, 0);
    expect(tokens).toBe(2 * all);
    const half = step / 2;
    const idsOf = (part: typeof seen) => part.flatMap(({ labels }) => labels.filter((id) => id > 0)).sort();
    expect(idsOf(seen.slice(0, half))).toEqual(training.flatMap(({ ids }) => ids).sort());
    expect(idsOf(seen.slice(half))).toEqual(idsOf(seen.slice(0, half)));
    expect(seen.slice(0, half)).not.toEqual(seen.slice(half));
    expect(rates[0]).toBe(0);
    expect(Math.max(...rates)).toBeLessThanOrEqual(options.learningRate);
    expect(rates.at(-1)).toBeLessThan(options.learningRate / 10);
  });

  const lossesOf = async (model: ReturnType<typeof setUp>, changes: Partial<FineTuningOptions> = {}) => {
    const losses: number[] = [];
    const { device } = model.parameters[0].value;
    const onStep = ({ loss }: { loss: number }) => void losses.push(loss);
    await fineTune(model, { training: examples(12, 2) }, { ...options, epochs: 1, ...changes }, { device, onStep });
    return losses;
  };

  test('dropout is on, as the configuration has it', async () => {
    const [without, most, again] = [0, 0.5, 0.5].map((dropout) => lossesOf(setUp(reference.create(), 2, { dropout })));
    expect((await without)[0]).not.toBeCloseTo((await most)[0], 4);
    expect(await again).toEqual(await most);
  });

  test('products are rounded if told to', async () => {
    const exact = await lossesOf(setUp(reference.create(), 2));
    const rounded = await lossesOf(setUp(reference.create(), 2), { precision: 'bf16' });
    expect(rounded).not.toEqual(exact);
    rounded.forEach((loss, step) => {
      expect(loss).toBeCloseTo(exact[step], 1);
    });
  });

  test('stopped and gone on: the same bits', async () => {
    const data = { training: examples(30, 3), validation: examples(10, 3) };
    const whole = setUp(reference.create(), 3);
    const device = whole.parameters[0].value.device;
    const result = await fineTune(whole, data, options, { device });

    // Stopped after a few steps, in the middle of an epoch, weights and moments carried over.
    for (const stopAt of [3, 8, 16]) {
      const first = setUp(reference.create(), 3);
      const stop = new AbortController();
      let kept: { progress: FineTuningProgress; state: Float32Array[] } | undefined;
      const tensors = (optimizer: AdamW) =>
        optimizer.parameters.flatMap(({ parameter, mean, variance }) => [parameter.value, mean, variance]);
      const stopped = await fineTune(first, data, options, {
        device: first.parameters[0].value.device,
        signal: stop.signal,
        onStep: ({ step }) => step === stopAt && stop.abort(),
        async save(progress, optimizer, occasion) {
          if (occasion !== 'stop') return;
          const state = await Promise.all(tensors(optimizer).map((tensor) => tensor.device.read(tensor)));
          kept = { progress: structuredClone(progress), state };
        },
      });
      expect(stopped).toMatchObject({ finished: false, step: stopAt });
      const second = setUp(reference.create(), 3);
      const session: FineTuningSession = {
        device: second.parameters[0].value.device,
        async restore(optimizer) {
          for (const [i, tensor] of tensors(optimizer).entries()) tensor.device.write(tensor, kept!.state[i]);
          return kept!.progress;
        },
      };
      const resumed = await fineTune(second, data, options, session);
      expect(resumed.epochs).toEqual(result.epochs);
      expect(await weightsOf(second)).toEqual(await weightsOf(whole));
    }
    const other = setUp(reference.create(), 3);
    await fineTune(other, data, { ...options, seed: 6 }, { device: other.parameters[0].value.device });
    expect(await weightsOf(other)).not.toEqual(await weightsOf(whole));
  });

  test.each([
    [1, /^step 1: the gradient's norm is not finite, before anything was trained: of the model that the training starts from, the weights/],
    [2, /^step 2: the gradient's norm is not finite .*try a lower learning rate$/],
  ])('a gradient that is not finite (of step %d) ends it before it is kept', async (bad, message) => {
    const device = reference.create();
    const model = setUp(device, 2);
    const clip = device.clipScale.bind(device);
    let steps = 0;
    device.clipScale = (a) => {
      clip(a);
      if (++steps === bad) device.fill({ output: a.output, value: Number.POSITIVE_INFINITY });
    };
    const kept: number[] = [];
    const save = async ({ step }: FineTuningProgress) => void kept.push(step);
    const run = fineTune(model, { training: examples(20, 2) }, options, { device, checkpointEvery: 0, save });
    await expect(run).rejects.toThrow(message);
    expect(kept).toEqual([1].slice(0, bad - 1));
  });

  test('stops after `patience` epochs without a better score, and says which epoch is best', async () => {
    const device = reference.create();
    const model = setUp(device, 2);
    const training = examples(20, 2);
    const best: boolean[] = [];
    // Nothing is learnt: no epoch is better than the first.
    const result = await fineTune(
      model,
      { training, validation: training },
      { ...options, epochs: 9, learningRate: 1e-12, patience: 2 },
      { device, afterEpoch: async (_, __, isBest) => void best.push(isBest) },
    );
    expect(result).toMatchObject({ finished: true, best: 1 });
    expect(best).toEqual([true, false, false]);
  });

  test('of epochs with equal scores the one with the lower validation loss is best, and its predictions are kept', async () => {
    const device = reference.create();
    const model = setUp(device, 2);
    // All of one class: every epoch has them right, and the loss falls.
    const validation = examples(40, 2).filter(({ label }) => label === 0);
    const losses: number[] = [];
    const result = await fineTune(
      model,
      { training: validation, validation },
      { ...options, epochs: 4, learningRate: 1e-2 },
      { device, afterEpoch: async ({ epochs }) => void losses.push(epochs.at(-1)!.validationLoss!) },
    );
    expect(result.epochs.slice(1).map(({ scores }) => scores.accuracy)).toEqual([1, 1, 1]);
    expect(losses).toEqual([...losses].sort((a, b) => b - a));
    expect(result.best).toBe(4);
    expect(result.predictions).toEqual(validation.map(() => 0));
  });

  test('the validation loss is that of training, dropout off', async () => {
    for (const labels of [1, 2, 3]) {
      const device = reference.create();
      const model = setUp(device, labels, { dropout: 0 });
      const all = examples(8, labels);
      // A step that changes nothing: the loss of both is that of the same weights.
      const { epochs } = await fineTune(
        model,
        { training: all, validation: all },
        { ...options, epochs: 1, learningRate: 1e-12 },
        { device },
      );
      expect(epochs[0].validationLoss).toBeCloseTo(epochs[0].loss, 5);
    }
  });

  test('without validation examples: no scores, no best epoch, the same weights', async () => {
    const [scored, unscored] = [setUp(reference.create(), 2), setUp(reference.create(), 2)];
    const training = examples(20, 2);
    await fineTune(scored, { training, validation: training }, options, { device: scored.parameters[0].value.device });
    const result = await fineTune(unscored, { training }, options, { device: unscored.parameters[0].value.device });
    expect(result).toMatchObject({ finished: true, best: 0 });
    expect(result.epochs.map(({ epoch, scores }) => [epoch, scores])).toEqual([1, 2, 3, 4].map((epoch) => [epoch, {}]));
    expect(await weightsOf(unscored)).toEqual(await weightsOf(scored));
  });

  test('says how the validation examples spread over the leaves, padding left out', async () => {
    const device = reference.create();
    const model = setUp(device, 2);
    const { feedforward } = model.config;
    const validation = examples(7, 2);
    const { epochs } = await fineTune(model, { training: examples(12, 2), validation }, { ...options, epochs: 1 }, { device });
    using arena = new Arena(device);
    const alone = new LeafCounts(feedforward);
    for (const { ids } of validation) {
      const batch = { batch: 1, length: ids.length, ids: Int32Array.from(ids) };
      alone.add((await watchLeaves({ device, arena, training: false }, (context) => model.logits(context, batch)))[1]);
    }
    expect(new Set(validation.map(({ ids }) => ids.length)).size).toBeGreaterThan(1);
    expect(epochs[0].layers).toEqual(alone.uses);
  });

  test('refuses a metric that the task does not have, and no examples', async () => {
    const device = reference.create();
    const model = setUp(device, 3);
    const some = examples(4, 3);
    await expect(fineTune(model, { training: some, validation: some }, { ...options, metric: 'f1' }, { device })).rejects.toThrow(
      "metric 'f1' is none of this task, expected one of accuracy",
    );
    await expect(fineTune(model, { training: [], validation: some }, options, { device })).rejects.toThrow('no examples');
  });
});

test('scores are those of the number of labels', () => {
  expect(scoresOf(2, [1, 1, 0, 0], [1, 0, 0, 0])).toEqual({
    accuracy: 0.75,
    f1: 2 / 3,
    matthews: expect.closeTo(0.5774, 4),
    macroF1: expect.closeTo(11 / 15, 9),
  });
  expect(scoresOf(3, [2, 1], [2, 0])).toEqual({ accuracy: 0.5, macroF1: expect.closeTo(1 / 3, 9) });
  expect(scoresOf(1, [1, 2, 3], [2, 3, 9])).toEqual({ spearman: expect.closeTo(1, 9), pearson: expect.closeTo(0.9244, 3) });
});
