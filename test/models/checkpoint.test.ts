import { mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { InputError } from '../../src/errors.ts';
import { readSafetensors } from '../../src/io/safetensors.ts';
import type { TensorToWrite } from '../../src/io/safetensors_writer.ts';
import {
  createMaskedLanguageModel,
  loadMaskedLanguageModel,
  loadModel,
  loadSequenceClassifier,
  saveCheckpoint,
} from '../../src/models/checkpoint.ts';
import { crammedBertConfig } from '../../src/models/config.ts';
import { Encoder } from '../../src/models/encoder.ts';
import { MaskedLanguageModel } from '../../src/models/masked_language_model.ts';
import { SequenceClassifier } from '../../src/models/sequence_classifier.ts';
import { goldenPath, goldenTensors } from '../goldens.ts';

import { CountingDevice, change, copyOf, newFolder, refusal, temporary } from './checkpoint_folders.ts';

let device: CountingDevice;
beforeEach(() => {
  device = new CountingDevice();
});
afterEach(() => device.dispose());

describe('initial weights', () => {
  const config = crammedBertConfig({
    vocabSize: 300,
    hiddenSize: 32,
    numAttentionHeads: 2,
    numHiddenLayers: 1,
    maxPositionEmbeddings: 16,
    padTokenId: 3,
    feedforward: { kind: 'fff', trees: 1, depth: 4 },
  });
  const values = async (seed: number) => {
    const model = createMaskedLanguageModel(config, device, seed);
    const folder = newFolder();
    await saveCheckpoint(folder, model);
    await using file = await readSafetensors(join(folder, 'model.safetensors'));
    const all = new Map<string, Float32Array>();
    for (const name of file.names) all.set(name, await file.read(name));
    return all;
  };

  test("are crammedBERT's", async () => {
    const all = await values(1);
    const word = all.get('encoder.embedding.word_embedding.weight') as Float32Array;
    expect(word.subarray(3 * 32, 4 * 32).every((value) => value === 0)).toBe(true);
    const deviation = Math.sqrt(word.reduce((sum, value) => sum + value * value, 0) / (word.length - 32));
    expect(deviation).toBeGreaterThan(0.0195);
    expect(deviation).toBeLessThan(0.0205);
    expect(Math.abs(word.reduce((sum, value) => sum + value, 0) / word.length)).toBeLessThan(0.001);
    expect(all.get('encoder.embedding.pos_embedding.scale_factor')).toEqual(Float32Array.of(1 / Math.sqrt(32)));
    expect(all.get('encoder.layers.0.norm2.weight')).toEqual(new Float32Array(32).fill(1));
    expect(all.get('encoder.layers.0.ffn.linear_in.bias')).toEqual(new Float32Array(31));
    expect(all.get('encoder.layers.0.ffn.linear_in.weight')).not.toEqual(all.get('encoder.layers.0.ffn.linear_out.weight'));
  });

  test('depend on the seed alone', async () => {
    const [first, same, other] = [await values(1), await values(1), await values(2)];
    expect(first).toEqual(same);
    for (const [name, array] of first) if (array.some((value) => value !== array[0])) expect(other.get(name)).not.toEqual(array);
  });
});

describe('loading', () => {
  test('a decoder without word embedding, and TensorFlow names', async () => {
    const crammed = copyOf('crammed-bert-fff-deep');
    await change(crammed, (tensors) => tensors.delete('encoder.embedding.word_embedding.weight'));
    const golden = await goldenTensors('crammed-bert-fff-deep', 'model.safetensors');
    const model = await loadMaskedLanguageModel(crammed, device);
    expect(await device.read(model.parameters[0].value)).toEqual(golden.floats('encoder.embedding.word_embedding.weight'));
    const bert = copyOf('hf-bert');
    await change(bert, (tensors) => {
      for (const tensor of [...tensors.values()]) {
        const name = tensor.name.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta');
        tensors.delete(tensor.name);
        tensors.set(name, { ...tensor, name });
      }
      tensors.set('cls.seq_relationship.bias', {
        name: 'cls.seq_relationship.bias',
        dtype: 'F32',
        shape: [2],
        values: new Float32Array(2),
      });
    });
    expect(await loadModel(bert, device)).toBeInstanceOf(MaskedLanguageModel);
  });

  test('a bare encoder', async () => {
    const folder = copyOf('hf-bert');
    await change(folder, (tensors) => {
      for (const tensor of [...tensors.values()]) {
        tensors.delete(tensor.name);
        const name = tensor.name.replace('bert.', '');
        if (!name.startsWith('cls.')) tensors.set(name, { ...tensor, name });
      }
    });
    const encoder = await loadModel(folder, device);
    expect(encoder).toBeInstanceOf(Encoder);
    const saved = newFolder();
    await saveCheckpoint(saved, encoder);
    expect(await loadModel(saved, device)).toBeInstanceOf(Encoder);
  });

  test('a head of scores says that its output is the score: sentence-transformers would squash it', async () => {
    const activations: unknown[] = [];
    for (const labels of [1, 2]) {
      const folder = newFolder();
      const made = await loadSequenceClassifier(goldenPath('hf-bert'), device, { fresh: { labels, seed: 1 } });
      await saveCheckpoint(folder, made);
      // And keeps saying so.
      const again = await loadSequenceClassifier(folder, device);
      await saveCheckpoint(folder, again);
      activations.push(JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')).sentence_transformers);
      made.dispose();
      again.dispose();
    }
    expect(activations).toEqual([{ activation_fn: 'torch.nn.modules.linear.Identity' }, undefined]);
  });

  test.each(['crammed-bert-fff', 'hf-bert'])('%s as a classifier with a fresh head', async (golden) => {
    await expect(loadSequenceClassifier(goldenPath(golden), device)).rejects.toThrow(/holds no classifier/);
    const labelNames = ['a', 'b', 'c', 'd'];
    const model = await loadSequenceClassifier(goldenPath(golden), device, { fresh: { labels: 4, labelNames, seed: 5 } });
    expect(model.labels).toBe(4);
    const folder = newFolder();
    await saveCheckpoint(folder, model);
    const again = await loadModel(folder, device);
    expect(again).toBeInstanceOf(SequenceClassifier);
    for (const [i, parameter] of again.parameters.entries()) {
      expect(await device.read(parameter.value)).toEqual(await device.read(model.parameters[i].value));
    }
    if (golden === 'hf-bert') expect(again.config.labelNames).toEqual(labelNames);
  });

  const word = 'encoder.embedding.word_embedding.weight';
  const norm = 'encoder.final_norm.bias';
  test.each<[string, (tensors: Map<string, TensorToWrite>) => void, RegExp]>([
    ['a tensor is missing', (tensors) => tensors.delete(norm), /lacks the tensor 'encoder\.final_norm\.bias' \[48\]/],
    [
      'a tensor is of another shape',
      (tensors) => tensors.set(norm, { name: norm, dtype: 'F32', shape: [6, 8], values: new Float32Array(48) }),
      /'encoder\.final_norm\.bias' is \[6,8\], expected \[48\]/,
    ],
    [
      'a tensor holds integers',
      (tensors) => tensors.set(norm, { name: norm, dtype: 'I32', shape: [48], values: new Int32Array(48) }),
      /'encoder\.final_norm\.bias' is I32/,
    ],
    [
      'a weight is not a number',
      (tensors) => ((tensors.get(norm) as { values: Float32Array }).values[7] = Number.NaN),
      /holds NaN at element 7/,
    ],
    [
      'a weight is infinite',
      (tensors) => ((tensors.get(word) as { values: Float32Array }).values[0] = Number.POSITIVE_INFINITY),
      /holds Infinity at element 0/,
    ],
    [
      'the decoder is not tied',
      (tensors) =>
        tensors.set('decoder.weight', { name: 'decoder.weight', dtype: 'F32', shape: [211, 48], values: new Float32Array(211 * 48) }),
      /untied decoder/,
    ],
    [
      'the decoder is of another shape',
      (tensors) =>
        tensors.set('decoder.weight', { name: 'decoder.weight', dtype: 'F32', shape: [48, 211], values: new Float32Array(211 * 48) }),
      /'decoder\.weight' is \[48,211\]/,
    ],
    [
      'attention is scaled otherwise',
      (tensors) => ((tensors.get('encoder.layers.0.attn.self_attention.norm_factor') as { values: Float32Array }).values[0] = 1),
      /norm_factor' is 1, expected 1 \/ sqrt/,
    ],
  ])('is refused if %s', async (_, edit, message) => {
    const folder = copyOf('crammed-bert-fff');
    await change(folder, edit);
    const found = await refusal(device, loadModel(folder, device));
    expect(found).toMatch(message);
    expect(found).toContain(join(folder, 'model.safetensors'));
  });

  test('is refused if files are missing, cut short or of another kind', async () => {
    expect(await refusal(device, loadModel(join(temporary, 'nowhere'), device))).toMatch(/nowhere.config\.json: cannot read/);
    const folder = copyOf('crammed-bert-fff');
    truncateSync(join(folder, 'model.safetensors'), 5000);
    expect(await refusal(device, loadModel(folder, device))).toMatch(/model\.safetensors: .*cut short/);
    rmSync(join(folder, 'model.safetensors'));
    expect(await refusal(device, loadModel(folder, device))).toMatch(/model\.safetensors: cannot read/);
    writeFileSync(join(folder, 'config.json'), '{"model_type": ');
    expect(await refusal(device, loadModel(folder, device))).toMatch(/config\.json: is not valid JSON/);
    expect(await refusal(device, loadMaskedLanguageModel(goldenPath('hf-bert-classify'), device))).toMatch(/lacks the tensor 'cls\./);
  });

  test('of damaged files succeeds or says in one line what is wrong', async () => {
    const golden = readFileSync(goldenPath('crammed-bert-fff-deep', 'model.safetensors'));
    const config = readFileSync(goldenPath('crammed-bert-fff-deep', 'config.json'));
    const headerEnd = 8 + Number(golden.readBigUInt64LE());
    const damage = fc.record({
      file: fc.constantFrom('config.json', 'model.safetensors'),
      at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      inHeader: fc.boolean(),
      cut: fc.boolean(),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 4 }),
    });
    const folder = newFolder();
    mkdirSync(folder);
    await fc.assert(
      fc.asyncProperty(damage, async ({ file, at, inHeader, cut, bytes }) => {
        const good = file === 'config.json' ? config : golden;
        const offset = Math.floor(at * (inHeader && file !== 'config.json' ? headerEnd : good.length));
        const bad = Buffer.from(cut ? good.subarray(0, offset) : good);
        if (!cut) bad.set(bytes.subarray(0, bad.length - offset), offset);
        writeFileSync(join(folder, 'config.json'), config);
        writeFileSync(join(folder, 'model.safetensors'), golden);
        writeFileSync(join(folder, file), bad);
        const model = await loadModel(folder, device).catch((error: unknown) => error as Error);
        if (model instanceof Error) {
          expect(model).toBeInstanceOf(InputError);
          expect(model.message).toContain(folder);
          expect(model.message).not.toContain('\n');
        } else model.dispose();
        expect(device.held).toBe(0);
      }),
      { numRuns: 150 },
    );
  });
});
