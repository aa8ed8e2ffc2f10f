import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import type { Backend } from '../../src/backend/backend.ts';
import { loadMaskedLanguageModel } from '../../src/models/checkpoint.ts';
import type { MaskedLanguageModel } from '../../src/models/masked_language_model.ts';
import type { Run } from '../../src/nn/parameter.ts';
import { candidates, describeOnEach } from '../backend/backends.ts';
import { expectClose, type GoldenTensors, goldenJson, goldenPath, goldenTensors, tolerances } from '../goldens.ts';
import { allocateGradients, expectGradients, expectTraining, type GoldenTraining, mean } from './training.ts';

const models = ['crammed-bert-fff', 'crammed-bert-fff-deep', 'crammed-bert-dense'];

describeOnEach(candidates, ({ create }) => {
  describe.each(models)('%s agrees with PyTorch', (folder) => {
    let backend: Backend;
    let model: MaskedLanguageModel;
    let golden: GoldenTensors;
    let batch: { batch: number; length: number; ids: Int32Array };
    let run: Run;
    beforeAll(async () => {
      backend = create();
      model = await loadMaskedLanguageModel(goldenPath(folder), backend);
      golden = await goldenTensors(folder, 'forward.safetensors');
      const [sequences, length] = golden.shape('input_ids');
      batch = { batch: sequences, length, ids: golden.integers('input_ids') };
      run = { backend, arena: new Arena(backend), training: false };
    });
    afterAll(() => backend?.dispose());

    test.each([true, false])('hidden states and logits (kept for training: %s)', async (training) => {
      const mode = { ...run, training };
      run.arena.reset();
      const { output } = model.encoder.forward(mode, batch);
      expectClose('encoder output', await backend.read(output), golden.floats('encoder_output'), tolerances.output);
      run.arena.reset();
      expectClose('logits', await backend.read(model.logits(mode, batch)), golden.floats('logits'), tolerances.output);
    });

    test('logits with padding, and of the first five tokens alone', async () => {
      run.arena.reset();
      const attentionMask = golden.integers('attention_mask');
      const masked = await backend.read(model.logits(run, { ...batch, attentionMask }));
      expectClose('masked logits', masked, golden.floats('logits_masked_attention'), tolerances.output);
      run.arena.reset();
      const ids = Int32Array.from({ length: batch.batch * 5 }, (_, i) => batch.ids[Math.floor(i / 5) * batch.length + (i % 5)]);
      const first5 = await backend.read(model.logits(run, { batch: batch.batch, length: 5, ids }));
      expectClose('logits of 5 tokens', first5, golden.floats('logits_first5'), tolerances.output);
    });

    test('logits at chosen positions are those of the whole', async () => {
      run.arena.reset();
      const positions = Int32Array.of(3, 0, batch.length + 1);
      const chosen = await backend.read(model.logits(run, batch, positions));
      const all = golden.floats('logits');
      const vocabulary = model.config.vocabularySize;
      positions.forEach((position, i) => {
        const row = all.subarray(position * vocabulary, (position + 1) * vocabulary);
        expectClose(`position ${position}`, chosen.subarray(i * vocabulary, (i + 1) * vocabulary), row, tolerances.output);
      });
    });

    test('loss and gradients', async () => {
      const labels = golden.integers('labels');
      const predicted = labels.filter((label) => label >= 0).length;
      allocateGradients(backend, model.parameters);
      run.arena.reset();
      const losses = await backend.read(model.lossAndGradients(run, { ...batch, labels }, { scale: 1 / predicted }));
      const { loss } = goldenJson<{ loss: number }>(folder, 'info.json');
      expect(losses).toHaveLength(predicted);
      expect(Math.abs(mean(losses) - loss)).toBeLessThan(tolerances.loss);
      await expectGradients(model.parameters, await goldenTensors(folder, 'gradients.safetensors'));

      run.arena.reset();
      const evaluated = await model.losses(run, { ...batch, labels });
      expectClose('losses without gradients', evaluated.losses, losses, 1e-5);
      for (const parameter of model.parameters) parameter.gradient?.dispose();
    });

    test('twelve steps of AdamW', async () => {
      const batches = await goldenTensors(folder, 'train-batches.safetensors');
      const { training } = goldenJson<{ training: GoldenTraining }>(folder, 'info.json');
      const gradients = await goldenTensors(folder, 'gradients.safetensors');
      const weights = await goldenTensors(folder, 'weights-after-training.safetensors');
      await expectTraining(backend, model.parameters, { training, gradients, weights }, (step) => {
        run.arena.reset();
        const labels = batches.integers(`labels.${step}`);
        const predicted = labels.filter((value) => value >= 0).length;
        const ids = batches.integers(`input_ids.${step}`);
        return model.lossAndGradients(run, { ...batch, ids, labels }, { scale: 1 / predicted });
      });
    });
  });
});
