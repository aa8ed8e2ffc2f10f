import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import type { Device } from '../../src/backend/device.ts';
import { loadModel } from '../../src/models/checkpoint.ts';
import { MaskedLanguageModel } from '../../src/models/masked_language_model.ts';
import { SequenceClassifier } from '../../src/models/sequence_classifier.ts';
import type { Batch } from '../../src/models/transformer.ts';
import { candidates, describeOnEach } from '../backend/backends.ts';
import { expectClose, type GoldenTensors, goldenJson, goldenPath, goldenTensors, tolerances } from '../goldens.ts';
import { allocateGradients, expectGradients, expectTraining, type GoldenTraining, mean } from './training.ts';

function batchOf(golden: GoldenTensors): Batch {
  const [batch, length] = golden.shape('input_ids');
  const [ids, attentionMask, typeIds] = ['input_ids', 'attention_mask', 'token_type_ids'].map((name) => golden.integers(name));
  return { batch, length, ids, attentionMask, typeIds };
}

describeOnEach(candidates, ({ create }) => {
  let device: Device;
  let arena: Arena;
  beforeAll(() => {
    device = create();
    arena = new Arena(device);
  });
  afterAll(() => device?.dispose());

  describe('BertForMaskedLM', () => {
    let model: MaskedLanguageModel;
    let golden: GoldenTensors;
    let batch: Batch;
    beforeAll(async () => {
      const loaded = await loadModel(goldenPath('hf-bert'), device);
      if (!(loaded instanceof MaskedLanguageModel)) throw new Error('expected a masked language model');
      model = loaded;
      golden = await goldenTensors('hf-bert', 'forward.safetensors');
      batch = batchOf(golden);
    });

    test.each([true, false])('hidden states and logits (kept for training: %s)', async (training) => {
      const context = { device, arena, training };
      arena.reset();
      const { output } = model.encoder.forward(context, batch);
      expectClose('last hidden state', await device.read(output), golden.floats('last_hidden_state'), tolerances.output);
      arena.reset();
      expectClose('logits', await device.read(model.logits(context, batch)), golden.floats('logits'), tolerances.output);
    });

    test('loss and gradients, then twelve steps of AdamW', async () => {
      const context = { device, arena, training: true };
      const labels = golden.integers('labels');
      const scale = 1 / labels.filter((value) => value >= 0).length;
      const { loss, training } = goldenJson<{ loss: number; training: GoldenTraining }>('hf-bert', 'info.json');
      const gradients = await goldenTensors('hf-bert', 'gradients.safetensors');
      const lossAndGradients = () => {
        arena.reset();
        return model.lossAndGradients(context, { ...batch, labels }, { scale });
      };
      allocateGradients(device, model.parameters);
      expect(Math.abs(mean(await device.read(lossAndGradients())) - loss)).toBeLessThan(tolerances.loss);
      await expectGradients(model.parameters, gradients);
      for (const parameter of model.parameters) parameter.gradient?.dispose();

      const weights = await goldenTensors('hf-bert', 'weights-after-training.safetensors');
      await expectTraining(device, model.parameters, { training, gradients, weights }, lossAndGradients);
    });
  });

  test('BertForSequenceClassification', async () => {
    const model = await loadModel(goldenPath('hf-bert-classify'), device);
    if (!(model instanceof SequenceClassifier)) throw new Error('expected a classifier');
    expect(model.labels).toBe(2);
    const golden = await goldenTensors('hf-bert-classify', 'forward.safetensors');
    const batch = batchOf(golden);
    const context = { device, arena, training: false };
    arena.reset();
    expectClose('logits', await device.read(model.logits(context, batch)), golden.floats('logits'), tolerances.output);

    allocateGradients(device, model.parameters);
    arena.reset();
    const losses = model.lossAndGradients(context, { ...batch, labels: golden.integers('labels') }, { scale: 1 / batch.batch });
    const { loss } = goldenJson<{ loss: number }>('hf-bert-classify', 'info.json');
    expect(Math.abs(mean(await device.read(losses)) - loss)).toBeLessThan(tolerances.loss);
    await expectGradients(model.parameters, await goldenTensors('hf-bert-classify', 'gradients.safetensors'));
  });
});
