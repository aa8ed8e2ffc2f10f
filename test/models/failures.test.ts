/** What goes wrong while a model is made or opened. */
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import type { Storage } from '../../src/backend/tensor.ts';
import { createMaskedLanguageModel, loadModel, loadSequenceClassifier } from '../../src/models/checkpoint.ts';
import { crammedBertConfig } from '../../src/models/config.ts';
import { goldenPath } from '../goldens.ts';
import { temporaryFolder } from '../temporary.ts';

/** Has memory for `left` tensors more. */
class SmallDevice extends ReferenceDevice {
  left = 0;
  held = 0;
  override allocate(bytes: number): Storage {
    if (this.left-- <= 0) throw new RangeError('no memory');
    this.held++;
    return super.allocate(bytes);
  }
  override release(storage: Storage): void {
    this.held--;
    super.release(storage);
  }
}

test('an allocation that fails leaves nothing behind, wherever it is', () => {
  using device = new SmallDevice();
  const config = crammedBertConfig({
    vocabSize: 20,
    hiddenSize: 8,
    numAttentionHeads: 2,
    numHiddenLayers: 2,
    feedforward: { kind: 'fff', trees: 1, depth: 2 },
  });
  let failed = 0;
  for (;;) {
    device.left = failed;
    try {
      createMaskedLanguageModel(config, device, 0).dispose();
      break;
    } catch (error) {
      expect(error).toBeInstanceOf(RangeError);
      failed++;
    }
    expect(device.held).toBe(0);
  }
  expect(device.held).toBe(0);
  expect(failed).toBeGreaterThan(12);
});

describe('a head that was trained for something else', () => {
  const folder = temporaryFolder();
  const changed = (changes: object) => {
    const to = join(folder, `${Object.keys(changes)}`);
    mkdirSync(to, { recursive: true });
    cpSync(join(goldenPath('hf-bert-classify'), 'model.safetensors'), join(to, 'model.safetensors'));
    const config = JSON.parse(readFileSync(join(goldenPath('hf-bert-classify'), 'config.json'), 'utf8'));
    writeFileSync(join(to, 'config.json'), JSON.stringify({ ...config, ...changes }));
    return to;
  };

  test('tokens, say, is no classifier of texts', async () => {
    using device = new ReferenceDevice();
    const model = changed({ architectures: ['BertForTokenClassification'] });
    const message = /has the head of a BertForTokenClassification by its config\.json, expected/;
    await expect(loadSequenceClassifier(model, device)).rejects.toThrow(message);
    using encoder = await loadModel(model, device);
    expect(encoder.task).toBe('encoder');
  });

  test('another number of classes is said to be there', async () => {
    using device = new ReferenceDevice();
    const fresh = { labels: 4, seed: 0 };
    await expect(loadSequenceClassifier(changed({ architectures: null }), device, { fresh })).rejects.toThrow(
      /has a head of 2 outputs that was trained already, expected 4 or none/,
    );
  });
});
