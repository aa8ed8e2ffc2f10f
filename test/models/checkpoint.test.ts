import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Arena } from '../../src/backend/arena.ts';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import type { Storage } from '../../src/backend/tensor.ts';
import { InputError } from '../../src/errors.ts';
import { readSafetensors } from '../../src/io/safetensors.ts';
import { type TensorToWrite, writeSafetensors } from '../../src/io/safetensors_writer.ts';
import {
  createMaskedLanguageModel,
  loadMaskedLanguageModel,
  loadModel,
  loadSequenceClassifier,
  saveCheckpoint,
} from '../../src/models/checkpoint.ts';
import { crammedBertConfig, type ModelConfig } from '../../src/models/config.ts';
import { Encoder } from '../../src/models/encoder.ts';
import { MaskedLanguageModel } from '../../src/models/masked_language_model.ts';
import { SequenceClassifier } from '../../src/models/sequence_classifier.ts';
import { Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import { goldenPath, goldenTensors } from '../goldens.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyModel } from '../tiny_model.ts';

/** Knows how much memory is held. */
class CountingDevice extends ReferenceDevice {
  held = 0;
  override allocate(bytes: number): Storage {
    this.held++;
    return super.allocate(bytes);
  }
  override release(storage: Storage): void {
    this.held--;
    super.release(storage);
  }
}

const temporary = temporaryFolder();
let folders = 0;
const newFolder = () => join(temporary, `${++folders}`);
let device: CountingDevice;
beforeEach(() => {
  device = new CountingDevice();
});
afterEach(() => device.dispose());

/** A copy of a golden checkpoint that a test may spoil. */
function copyOf(golden: string): string {
  const folder = newFolder();
  mkdirSync(folder);
  for (const name of ['config.json', 'model.safetensors']) cpSync(goldenPath(golden, name), join(folder, name));
  return folder;
}

/** Rewrites a checkpoint's tensors. */
async function change(folder: string, edit: (tensors: Map<string, TensorToWrite>) => void): Promise<void> {
  const path = join(folder, 'model.safetensors');
  const tensors = new Map<string, TensorToWrite>();
  {
    await using file = await readSafetensors(path);
    for (const name of file.names) tensors.set(name, { name, dtype: 'F32', shape: file.info(name).shape, values: await file.read(name) });
  }
  edit(tensors);
  await writeSafetensors(path, tensors.values());
}

async function messageOf(attempt: Promise<unknown>): Promise<string> {
  const error = await attempt.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(error).toBeInstanceOf(InputError);
  expect((error as Error).message).not.toContain('\n');
  expect(device.held, 'memory is given back').toBe(0);
  return (error as Error).message;
}

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
    const found = await messageOf(loadModel(folder, device));
    expect(found).toMatch(message);
    expect(found).toContain(join(folder, 'model.safetensors'));
  });

  test('is refused if files are missing, cut short or of another kind', async () => {
    expect(await messageOf(loadModel(join(temporary, 'nowhere'), device))).toMatch(/nowhere.config\.json: cannot read/);
    const folder = copyOf('crammed-bert-fff');
    truncateSync(join(folder, 'model.safetensors'), 5000);
    expect(await messageOf(loadModel(folder, device))).toMatch(/model\.safetensors: .*cut short/);
    rmSync(join(folder, 'model.safetensors'));
    expect(await messageOf(loadModel(folder, device))).toMatch(/model\.safetensors: cannot read/);
    writeFileSync(join(folder, 'config.json'), '{"model_type": ');
    expect(await messageOf(loadModel(folder, device))).toMatch(/config\.json: is not valid JSON/);
    expect(await messageOf(loadMaskedLanguageModel(goldenPath('hf-bert-classify'), device))).toMatch(/lacks the tensor 'cls\./);
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
