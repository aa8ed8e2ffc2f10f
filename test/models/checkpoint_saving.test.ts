import { cpSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import { InputError } from '../../src/errors.ts';
import { readSafetensors } from '../../src/io/safetensors.ts';
import { createMaskedLanguageModel, loadModel, saveCheckpoint } from '../../src/models/checkpoint.ts';
import { crammedBertConfig, type ModelConfig } from '../../src/models/config.ts';
import { MaskedLanguageModel } from '../../src/models/masked_language_model.ts';
import { SequenceClassifier } from '../../src/models/sequence_classifier.ts';
import { Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import { goldenPath, goldenTensors } from '../goldens.ts';
import { writeTinyModel } from '../tiny_model.ts';

import { CountingDevice, change, newFolder, temporary } from './checkpoint_folders.ts';

let device: CountingDevice;
beforeEach(() => {
  device = new CountingDevice();
});
afterEach(() => device.dispose());

describe('saving what was loaded', () => {
  test.each([
    ['crammed-bert-fff', MaskedLanguageModel],
    ['crammed-bert-fff-deep', MaskedLanguageModel],
    ['crammed-bert-dense', MaskedLanguageModel],
    ['hf-bert', MaskedLanguageModel],
    ['hf-bert-classify', SequenceClassifier],
  ])('%s: the same tensors, byte for byte', async (golden, kind) => {
    const model = await loadModel(goldenPath(golden), device);
    expect(model).toBeInstanceOf(kind);
    const folder = newFolder();
    await saveCheckpoint(folder, model, { tokenizer: { some: 'tokenizer' }, dtype: 'F32' });
    expect(readdirSync(folder).sort()).toEqual(['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']);
    expect(JSON.parse(readFileSync(join(folder, 'tokenizer.json'), 'utf8'))).toEqual({ some: 'tokenizer' });
    await using original = await readSafetensors(goldenPath(golden, 'model.safetensors'));
    await using saved = await readSafetensors(join(folder, 'model.safetensors'));
    // As published checkpoints of crammedBERT have it, and transformers' of BERT do not.
    const copies = golden.startsWith('crammed') ? ['decoder.weight'] : [];
    expect(saved.names.sort()).toEqual([...new Set([...original.names, ...copies])].sort());
    const word = 'encoder.embedding.word_embedding.weight';
    for (const name of copies) expect(Buffer.compare(await saved.readRaw(name), await saved.readRaw(word)), name).toBe(0);
    for (const name of original.names) {
      expect(saved.info(name)).toMatchObject({ dtype: 'F32', shape: original.info(name).shape });
      expect(Buffer.compare(await saved.readRaw(name), await original.readRaw(name)), name).toBe(0);
    }
    const again = await loadModel(folder, device);
    expect(again.config).toEqual(model.config);
    model.dispose();
    again.dispose();
    expect(device.held).toBe(0);
  });

  test('in bf16, to the precision of bf16', async () => {
    const model = await loadModel(goldenPath('crammed-bert-fff'), device);
    const folder = newFolder();
    await saveCheckpoint(folder, model, { dtype: 'BF16' });
    expect(existsSync(join(folder, 'tokenizer.json'))).toBe(false);
    const golden = await goldenTensors('crammed-bert-fff', 'model.safetensors');
    await using saved = await readSafetensors(join(folder, 'model.safetensors'));
    const name = 'encoder.layers.1.ffn.linear_out.weight';
    expect(saved.info(name).dtype).toBe('BF16');
    const values = await saved.read(name);
    golden.floats(name).forEach((value, i) => {
      expect(Math.abs(values[i] - value)).toBeLessThanOrEqual(Math.abs(value) / 256);
    });
    expect(values).not.toEqual(golden.floats(name));
    await loadModel(folder, device);
  });

  test('BERT with FFF', async () => {
    const config: ModelConfig = {
      ...crammedBertConfig({
        vocabSize: 31,
        hiddenSize: 8,
        numAttentionHeads: 2,
        numHiddenLayers: 2,
        maxPositionEmbeddings: 8,
        feedforward: { kind: 'fff', trees: 1, depth: 3 },
      }),
      family: 'ultrafastbert',
      typeVocabSize: 2,
      bias: { queryKeyValue: true, dense: true },
      mlmProbability: 0.15,
    };
    const model = createMaskedLanguageModel(config, device, 1);
    const folder = newFolder();
    await saveCheckpoint(folder, model, {});
    expect(JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'))).toMatchObject({ model_type: 'ultrafastbert', intermed_depth: 3 });
    await using saved = await readSafetensors(join(folder, 'model.safetensors'));
    for (const name of ['encoder.layer.1.ffn.linear_in.weight', 'embeddings.word_embeddings.weight', 'cls.predictions.bias'])
      expect(saved.has(name)).toBe(true);
    const again = await loadModel(folder, device);
    expect(again).toBeInstanceOf(MaskedLanguageModel);
    const batch = { batch: 1, length: 3, ids: Int32Array.of(4, 5, 6) };
    const logits = (m: MaskedLanguageModel) => device.read(m.logits({ device, arena: new Arena(device), training: false }, batch));
    expect(await logits(again as MaskedLanguageModel)).toEqual(await logits(model));
  });

  test('leaves of several neurons', async () => {
    const feedforward = { kind: 'fff', trees: 2, depth: 3, leafWidth: 5 } as const;
    const config = crammedBertConfig({
      vocabSize: 31,
      hiddenSize: 8,
      numAttentionHeads: 2,
      numHiddenLayers: 1,
      maxPositionEmbeddings: 8,
      feedforward,
    });
    const model = createMaskedLanguageModel(config, device, 1);
    const folder = newFolder();
    await saveCheckpoint(folder, model);
    const json = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
    expect(json.arch).toMatchObject({ intermed_size: 2, intermed_depth: 3, intermed_leaf_width: 5 });
    await using saved = await readSafetensors(join(folder, 'model.safetensors'));
    const shapes = ['linear_in.weight', 'linear_in.bias', 'linear_out.weight'].map(
      (name) => saved.info(`encoder.layers.0.ffn.${name}`).shape,
    );
    expect(shapes).toEqual([[94, 8], [94], [8, 94]]);
    const again = (await loadModel(folder, device)) as MaskedLanguageModel;
    const batch = { batch: 1, length: 3, ids: Int32Array.of(4, 5, 6) };
    const logits = (m: MaskedLanguageModel) => device.read(m.logits({ device, arena: new Arena(device), training: false }, batch));
    const expected = await logits(model);
    expect(await logits(again)).toEqual(expected);
    // Other trees than the tensors hold.
    json.arch.intermed_leaf_width = 4;
    writeFileSync(join(folder, 'config.json'), JSON.stringify(json));
    await expect(loadModel(folder, device)).rejects.toThrow(/linear_in.weight.*\[94, ?8\].*\[78, ?8\]/);
  });

  test('routing thresholds: absent where all are 0, else kept exactly whatever the dtype', async () => {
    const feedforward = { kind: 'fff', trees: 2, depth: 3 } as const;
    const config = crammedBertConfig({
      vocabSize: 31,
      hiddenSize: 8,
      numAttentionHeads: 2,
      numHiddenLayers: 2,
      maxPositionEmbeddings: 8,
      feedforward,
    });
    const model = createMaskedLanguageModel(config, device, 1);
    const entries = (folder: string) => JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')).arch;
    const plain = newFolder();
    await saveCheckpoint(plain, model);
    expect(entries(plain)).not.toHaveProperty('intermed_thresholds');
    await using file = await readSafetensors(join(plain, 'model.safetensors'));
    expect(file.names.filter((name) => name.includes('thresholds'))).toEqual([]);

    // Of one layer's only: the other's are 0.
    const thresholds = model.parameters.find(({ name }) => name === 'encoder.layers.0.ffn.thresholds')!;
    const values = Float32Array.from({ length: 14 }, (_, i) => Math.sin(i) / 3);
    device.write(thresholds.value, values);
    const folder = newFolder();
    await saveCheckpoint(folder, model, { dtype: 'BF16' });
    expect(entries(folder)).toMatchObject({ intermed_thresholds: true });
    await using saved = await readSafetensors(join(folder, 'model.safetensors'));
    for (const layer of [0, 1]) expect(saved.info(`encoder.layers.${layer}.ffn.thresholds`)).toMatchObject({ dtype: 'F32', shape: [2, 7] });
    const again = await loadModel(folder, device);
    expect(await device.read(again.parameters.find(({ name }) => name === thresholds.name)!.value)).toEqual(values);
    // Those that config.json names have to be there, and no others: a model is not to be read without some of them.
    await change(folder, (tensors) => tensors.delete('encoder.layers.1.ffn.thresholds'));
    await expect(loadModel(folder, device)).rejects.toThrow(/lacks the tensor 'encoder.layers.1.ffn.thresholds' \[2,7\]/);
    cpSync(join(plain, 'config.json'), join(folder, 'config.json'));
    await expect(loadModel(folder, device)).rejects.toThrow(
      /holds the tensor 'encoder.layers.0.ffn.thresholds', which a model of this config/,
    );
  });

  test.each<[string, ModelConfig['feedforward'], object]>([
    ['neurons that are always on', { kind: 'fff', trees: 2, depth: 2, alwaysOn: 5 }, { intermed_type: 'fff', intermed_always_on: 5 }],
    ['no feedforward', { kind: 'none' }, { intermed_type: 'none' }],
  ])('%s, in either family', async (_, feedforward, entries) => {
    for (const family of ['crammedBERT', 'ultrafastbert'] as const) {
      const shape = { vocabSize: 31, hiddenSize: 8, numAttentionHeads: 2, numHiddenLayers: 1, maxPositionEmbeddings: 8, feedforward };
      const tokenTypes = family === 'crammedBERT' ? 0 : 2;
      const config: ModelConfig = {
        ...crammedBertConfig(shape),
        family,
        typeVocabSize: tokenTypes,
        bias: { queryKeyValue: tokenTypes > 0, dense: tokenTypes > 0 },
      };
      const model = createMaskedLanguageModel(config, device, 1);
      const folder = newFolder();
      await saveCheckpoint(folder, model);
      const json = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
      expect(family === 'crammedBERT' ? json.arch : json).toMatchObject(entries);
      expect(JSON.stringify(json)).not.toContain('leaf_width');
      const again = (await loadModel(folder, device)) as MaskedLanguageModel;
      const batch = { batch: 1, length: 3, ids: Int32Array.of(4, 5, 6) };
      const logits = (m: MaskedLanguageModel) => device.read(m.logits({ device, arena: new Arena(device), training: false }, batch));
      expect(await logits(again)).toEqual(await logits(model));
    }
  });

  test('a tokenizer itself does as well as the content of its file', async () => {
    const [tiny, folder] = [newFolder(), newFolder()];
    await writeTinyModel(tiny);
    const tokenizer = await Tokenizer.load(join(tiny, 'tokenizer.json'));
    await saveCheckpoint(folder, await loadModel(tiny, device), { tokenizer });
    expect(JSON.parse(readFileSync(join(folder, 'tokenizer.json'), 'utf8'))).toEqual(tokenizer.json);
  });

  test('what cannot be saved leaves the folder as it was', async () => {
    const [folder, golden] = [newFolder(), goldenPath('hf-bert')];
    const prepared = await loadModel(golden, device, { dtype: 'f32' });
    await expect(saveCheckpoint(folder, prepared, { tokenizer: {} })).rejects.toThrow(
      /was prepared in f32 .* load the model without a dtype/,
    );
    expect(existsSync(folder)).toBe(false);

    const model = await loadModel(golden, device);
    await saveCheckpoint(folder, model, { tokenizer: { some: 'tokenizer' } });
    const files = () => readdirSync(folder).map((name) => readFileSync(join(folder, name)));
    const before = files();
    const tooLarge = await loadModel(goldenPath('crammed-bert-fff'), device);
    const { value } = tooLarge.parameters[0];
    device.write(value, new Float32Array(value.shape.reduce((a, b) => a * b)).fill(1e30));
    await expect(saveCheckpoint(folder, tooLarge, { tokenizer: {}, dtype: 'F16' })).rejects.toThrow(/more than float16 holds/);
    expect(files()).toEqual(before);
  });

  test('a parameter is read once, however many tensors it is', async () => {
    const model = await loadModel(goldenPath('hf-bert'), device);
    const read = vi.spyOn(device, 'read');
    await saveCheckpoint(newFolder(), model);
    expect(model.parameters.some(({ layout }) => layout.tensors.length > 1)).toBe(true);
    expect(read).toHaveBeenCalledTimes(model.parameters.length);
  });

  test('into a folder that cannot be', async () => {
    const model = createMaskedLanguageModel(
      crammedBertConfig({
        vocabSize: 9,
        hiddenSize: 4,
        numAttentionHeads: 1,
        numHiddenLayers: 1,
        maxPositionEmbeddings: 4,
        feedforward: { kind: 'fff', trees: 1, depth: 1 },
      }),
      device,
      1,
    );
    const file = join(temporary, 'a file');
    writeFileSync(file, '');
    const error = await saveCheckpoint(join(file, 'model'), model).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(InputError);
    expect((error as Error).message).toContain(file);
  });
});
