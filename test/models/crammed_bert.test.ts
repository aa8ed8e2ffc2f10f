import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import type { Device } from '../../src/backend/device.ts';
import { loadMaskedLanguageModel } from '../../src/models/checkpoint.ts';
import type { MaskedLanguageModel } from '../../src/models/masked_language_model.ts';
import type { Context } from '../../src/nn/parameter.ts';
import { candidates, describeOnEach } from '../backend/backends.ts';
import { expectClose, type GoldenTensors, goldenJson, goldenPath, goldenTensors, tolerances } from '../goldens.ts';
import { allocateGradients, expectGradients, expectTraining, type GoldenTraining, mean } from './training.ts';

const models = ['crammed-bert-fff', 'crammed-bert-fff-deep', 'crammed-bert-dense'];

describeOnEach(candidates, ({ create }) => {
  describe.each(models)('%s agrees with PyTorch', (folder) => {
    let device: Device;
    let model: MaskedLanguageModel;
    let golden: GoldenTensors;
    let batch: { batch: number; length: number; ids: Int32Array };
    let context: Context;
    beforeAll(async () => {
      device = create();
      model = await loadMaskedLanguageModel(goldenPath(folder), device);
      golden = await goldenTensors(folder, 'forward.safetensors');
      const [sequences, length] = golden.shape('input_ids');
      batch = { batch: sequences, length, ids: golden.integers('input_ids') };
      context = { device, arena: new Arena(device), training: false };
    });
    afterAll(() => device?.dispose());

    test.each([true, false])('hidden states and logits (kept for training: %s)', async (training) => {
      const mode = { ...context, training };
      context.arena.reset();
      const { output } = model.encoder.forward(mode, batch);
      expectClose('encoder output', await device.read(output), golden.floats('encoder_output'), tolerances.output);
      context.arena.reset();
      expectClose('logits', await device.read(model.logits(mode, batch)), golden.floats('logits'), tolerances.output);
    });

    test('logits with padding, and of the first five tokens alone', async () => {
      context.arena.reset();
      const attentionMask = golden.integers('attention_mask');
      const masked = await device.read(model.logits(context, { ...batch, attentionMask }));
      expectClose('masked logits', masked, golden.floats('logits_masked_attention'), tolerances.output);
      context.arena.reset();
      const ids = Int32Array.from({ length: batch.batch * 5 }, (_, i) => batch.ids[Math.floor(i / 5) * batch.length + (i % 5)]);
      const first5 = await device.read(model.logits(context, { batch: batch.batch, length: 5, ids }));
      expectClose('logits of 5 tokens', first5, golden.floats('logits_first5'), tolerances.output);
    });

    test('logits at chosen positions are those of the whole', async () => {
      context.arena.reset();
      const positions = Int32Array.of(3, 0, batch.length + 1);
      const chosen = await device.read(model.logits(context, batch, positions));
      const all = golden.floats('logits');
      const vocabulary = model.config.vocabSize;
      positions.forEach((position, i) => {
        const row = all.subarray(position * vocabulary, (position + 1) * vocabulary);
        expectClose(`position ${position}`, chosen.subarray(i * vocabulary, (i + 1) * vocabulary), row, tolerances.output);
      });
    });

    test('loss and gradients', async () => {
      const labels = golden.integers('labels');
      const predicted = labels.filter((label) => label >= 0).length;
      allocateGradients(device, model.parameters);
      context.arena.reset();
      const losses = await device.read(model.lossAndGradients(context, { ...batch, labels }, { scale: 1 / predicted }));
      const { loss } = goldenJson<{ loss: number }>(folder, 'info.json');
      expect(losses).toHaveLength(predicted);
      expect(Math.abs(mean(losses) - loss)).toBeLessThan(tolerances.loss);
      await expectGradients(model.parameters, await goldenTensors(folder, 'gradients.safetensors'));

      context.arena.reset();
      const evaluated = await model.losses(context, { ...batch, labels });
      expectClose('losses without gradients', evaluated.losses, losses, 1e-5);
      for (const parameter of model.parameters) parameter.gradient?.dispose();
    });

    test('twelve steps of AdamW', async () => {
      const batches = await goldenTensors(folder, 'train-batches.safetensors');
      const { training } = goldenJson<{ training: GoldenTraining }>(folder, 'info.json');
      const gradients = await goldenTensors(folder, 'gradients.safetensors');
      const weights = await goldenTensors(folder, 'weights-after-training.safetensors');
      await expectTraining(device, model.parameters, { training, gradients, weights }, (step) => {
        context.arena.reset();
        const labels = batches.integers(`labels.${step}`);
        const predicted = labels.filter((value) => value >= 0).length;
        const ids = batches.integers(`input_ids.${step}`);
        return model.lossAndGradients(context, { ...batch, ids, labels }, { scale: 1 / predicted });
      });
    });
  });
});
