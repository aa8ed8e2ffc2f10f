import { expect, onTestFinished, test } from 'vitest';
import type { Device } from '../../src/backend/device.ts';
import type { ProductPrecision } from '../../src/backend/prepared_weight.ts';
import { createMaskedLanguageModel } from '../../src/models/checkpoint.ts';
import { crammedBertConfig, type ModelConfig } from '../../src/models/config.ts';
import type { LabeledBatch } from '../../src/models/language_model.ts';
import { exportParameter } from '../../src/nn/parameter_arrays.ts';
import { evaluationBatches } from '../../src/training/batches.ts';
import { pretrainingAdamW } from '../../src/training/optimizer.ts';
import { predictionLoss, predictionStep } from '../../src/training/prediction_steps.ts';
import { Trainer } from '../../src/training/trainer.ts';
import { candidates, describeOnEach } from '../backend/backends.ts';

const vocabularySize = 60;
const length = 16;

const tiny = { hiddenSize: 32, numAttentionHeads: 2, numHiddenLayers: 2, maxPositionEmbeddings: 128 };

function setUp(device: Device, changes: Partial<ModelConfig> = {}, precision?: ProductPrecision) {
  const config = { ...tiny, feedforward: { kind: 'fff', trees: 2, depth: 3 } as const };
  const model = createMaskedLanguageModel(crammedBertConfig({ vocabSize: vocabularySize, ...config, ...changes }), device, 1);
  const trainer = new Trainer(device, model.parameters, { adamW: { ...pretrainingAdamW, epsilon: 1e-8 }, precision });
  onTestFinished(() => {
    trainer.dispose();
    model.dispose();
    device.dispose();
  });
  return {
    model,
    step: (work: readonly LabeledBatch[], learningRate: number, balance = 0) => predictionStep(trainer, model, work, learningRate, balance),
    loss: async (work: readonly LabeledBatch[]) => (await predictionLoss(trainer, model, work)).loss,
  };
}

/** Sequences of tokens without any pattern, masked. */
function batches(sequences: number, batch: number, tokens = length, first = 0): LabeledBatch[] {
  const ids = Int32Array.from({ length: sequences * tokens }, (_, at) => {
    const i = first + at;
    return 5 + ((i * i * 7 + i * 13) % (vocabularySize - 5));
  });
  return evaluationBatches(ids, { batch, length: tokens }, 3, { maskId: 4, vocabularySize });
}

describeOnEach(candidates, ({ create }) => {
  test.each([1, 4])('overfits a batch, leaf width %d', async (leafWidth) => {
    const { step: take, loss: evaluate } = setUp(create(), { feedforward: { kind: 'fff', trees: 2, depth: 3, leafWidth } });
    const batch = batches(4, 4);
    const losses: number[] = [];
    for (let step = 0; step < 120; step++) losses.push((await take(batch, 3e-3)).loss);
    expect(losses[0]).toBeCloseTo(Math.log(vocabularySize), 0);
    expect(losses.at(-1)).toBeLessThan(0.1);
    expect(await evaluate(batch)).toBeLessThan(0.1);
  });

  test('a step that fails changes nothing: the next is as if it had not been', async () => {
    const weights = [];
    for (const failing of [true, false]) {
      const { model, step } = setUp(create());
      await step(batches(4, 2), 1e-3, 0.3);
      const [good, bad] = batches(4, 2);
      const labels = bad.labels.map((label) => (label >= 0 ? vocabularySize : label));
      if (failing) await expect(step([good, { ...bad, labels }], 1e-3, 0.3)).rejects.toThrow(/60/);
      await step(batches(4, 2), 1e-3, 0.3);
      weights.push(await Promise.all(model.parameters.map(({ value }) => value.device.read(value))));
    }
    expect(weights[0]).toEqual(weights[1]);
  });

  test('accumulates: micro-batches give the same loss, norm and step as one batch', async () => {
    const results = [];
    for (const micro of [4, 2, 1]) {
      const { model, step } = setUp(create());
      const { loss, gradientNorm } = await step(batches(4, micro), 1e-3, 0.3);
      const thresholds = await Promise.all(model.parameters.filter(({ buffer }) => buffer).map(({ value }) => value.device.read(value)));
      const second = await step(batches(4, micro), 1e-3);
      const weights = await exportParameter(model.parameters[0]);
      results.push({ loss, gradientNorm, secondLoss: second.loss, weights: weights[0].values, thresholds });
    }
    for (const result of results.slice(1)) {
      expect(result.loss).toBeCloseTo(results[0].loss, 5);
      expect(result.gradientNorm / results[0].gradientNorm).toBeCloseTo(1, 4);
      expect(result.secondLoss).toBeCloseTo(results[0].secondLoss, 3);
      expect(result.secondLoss).not.toBe(result.loss);
      // They follow whole numbers of tokens.
      expect(result.thresholds).toEqual(results[0].thresholds);
      expect(result.thresholds.flatMap((ofLayer) => [...ofLayer]).some((value) => value !== 0)).toBe(true);
    }
  });

  test('multiplies in bf16 if told to: other numbers, the same training', async () => {
    const work = batches(4, 4);
    const [full, rounded] = [setUp(create()), setUp(create(), {}, 'bf16')];
    const first = await Promise.all([full, rounded].map(({ step }) => step(work, 3e-3)));
    expect(first[1].loss).not.toBe(first[0].loss);
    expect(first[1].loss).toBeCloseTo(first[0].loss, 2);
    expect(first[1].gradientNorm / first[0].gradientNorm).toBeCloseTo(1, 2);
    for (let step = 1; step < 120; step++) await rounded.step(work, 3e-3);
    expect(await rounded.loss(work)).toBeLessThan(0.1);
  });

  test('evaluates without changing anything', async () => {
    const { model, step, loss: evaluate } = setUp(create());
    const before = await exportParameter(model.parameters[0]);
    const loss = await evaluate(batches(4, 2));
    expect(await evaluate(batches(4, 2))).toBe(loss);
    expect((await step(batches(4, 4), 0)).loss).toBeCloseTo(loss, 5);
    expect(await exportParameter(model.parameters[0])).toEqual(before);
  });
});

const native = candidates.find(({ label, unavailable }) => label.startsWith('native') && !unavailable);

test.skipIf(!native)('timers fire while the native backend trains', async () => {
  const { step: take } = setUp(native!.create(), { hiddenSize: 128, numHiddenLayers: 4 });
  const work = batches(16, 16, 128);
  await take(work, 1e-3);
  let fired = 0;
  let training = true;
  const tick = () => {
    if (!training) return;
    fired++;
    setTimeout(tick, 1);
  };
  const step = take(work, 1e-3);
  setTimeout(tick, 1);
  await step;
  training = false;
  expect(fired).toBeGreaterThan(2);
});
