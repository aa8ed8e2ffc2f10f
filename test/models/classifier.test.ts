import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import type { Device } from '../../src/backend/device.ts';
import { writeSafetensors } from '../../src/io/safetensors_writer.ts';
import { loadModel } from '../../src/models/checkpoint.ts';
import { SequenceClassifier } from '../../src/models/sequence_classifier.ts';
import { candidates, describeOnEach } from '../backend/backends.ts';
import { expectClose, type GoldenTensors, goldenJson, goldenTensors, tolerances } from '../goldens.ts';
import { temporaryFolder } from '../temporary.ts';
import { allocateGradients, expectGradients, mean } from './training.ts';

const models = ['crammed-bert-fff', 'crammed-bert-fff-deep', 'crammed-bert-dense'];
const heads = ['avg-1', 'avg-3', 'lse-3', 'max-3', 'zero_index-1', 'zero_index-3'];
const folder = temporaryFolder();

/** The checkpoint folder that a golden stands for: it has the weights beside gradients and logits, and no configuration of its own. */
async function writeCheckpoint(model: string, head: string, golden: GoldenTensors): Promise<string> {
  const config = goldenJson<{ arch: { classification_head: { pooler: string } } }>(model, 'config.json');
  config.arch.classification_head.pooler = head.split('-')[0];
  const path = join(folder, `${model}-${head}`);
  await mkdir(path, { recursive: true });
  await writeFile(join(path, 'config.json'), JSON.stringify(config));
  const weights = golden.names.filter((name) => /^(encoder|pooler|head)\./.test(name));
  const tensors = weights.map((name) => ({ name, dtype: 'F32' as const, shape: golden.shape(name), values: golden.floats(name) }));
  await writeSafetensors(join(path, 'model.safetensors'), tensors);
  return path;
}

describeOnEach(candidates, ({ create }) => {
  let device: Device;
  beforeAll(() => {
    device = create();
  });
  afterAll(() => device?.dispose());

  test.each(models.flatMap((model) => heads.map((head) => [model, head])))('%s %s: logits, loss and gradients', async (name, head) => {
    const golden = await goldenTensors(name, 'classify', `${head}.safetensors`);
    const model = await loadModel(await writeCheckpoint(name, head, golden), device);
    if (!(model instanceof SequenceClassifier)) throw new Error('expected a classifier');
    expect(model.labels).toBe(Number(head.split('-')[1]));
    const [batch, length] = golden.shape('input_ids');
    const inputs = { batch, length, ids: golden.integers('input_ids'), attentionMask: golden.integers('attention_mask') };
    const labels = model.labels === 1 ? golden.floats('labels') : golden.integers('labels');
    using arena = new Arena(device);
    const context = { device, arena, training: false };
    expectClose('logits', await device.read(model.logits(context, inputs)), golden.floats('logits'), tolerances.output);

    allocateGradients(device, model.parameters);
    arena.reset();
    const losses = await device.read(model.lossAndGradients(context, { ...inputs, labels }, { scale: 1 / batch }));
    const info = goldenJson<{ classification: Record<string, { loss: number }> }>(name, 'info.json');
    expect(Math.abs(mean(losses) - info.classification[head].loss)).toBeLessThan(tolerances.loss);
    await expectGradients(model.parameters, golden, 'grad.');
    model.dispose();
  });
});
