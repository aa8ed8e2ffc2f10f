import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { InferenceSession } from 'onnxruntime-node';
import { beforeAll, describe, expect, test } from 'vitest';
import { readSafetensors } from '../../src/io/safetensors.ts';
import { goldenPath } from '../goldens.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyDecoder } from '../tiny_decoder.ts';
import { ufb } from './ufb.ts';

const folder = temporaryFolder();

/** A golden model as a whole folder: with a tokenizer of some kind, which is only carried along. */
function modelOf(golden: string): string {
  const to = join(folder, golden);
  for (const name of ['config.json', 'model.safetensors']) cpSync(join(goldenPath(golden), name), join(to, name));
  cpSync(goldenPath('tokenizers', 'bert.json'), join(to, 'tokenizer.json'));
  return to;
}

describe('ufb export safetensors', () => {
  test.each(['crammed-bert-fff', 'crammed-bert-dense', 'hf-bert', 'hf-bert-classify'])(
    '%s comes out byte for byte as it came',
    async (golden) => {
      const [model, out] = [modelOf(golden), join(folder, `${golden} out`)];
      const { code, stderr } = await ufb(['export', 'safetensors', '--model', model, '--out', out]);
      expect(code, stderr).toBe(0);
      const [before, after] = [join(model, 'model.safetensors'), join(out, 'model.safetensors')];
      if (golden.startsWith('hf')) expect(readFileSync(after).equals(readFileSync(before))).toBe(true);
      else {
        // And the word embedding a second time, as the published checkpoints have it.
        await using original = await readSafetensors(before);
        await using exported = await readSafetensors(after);
        expect(exported.names.sort()).toEqual(['decoder.weight', ...original.names].sort());
        for (const name of exported.names) {
          const source = name === 'decoder.weight' ? 'encoder.embedding.word_embedding.weight' : name;
          expect(exported.info(name)).toMatchObject({ dtype: 'F32', shape: original.info(source).shape });
          expect(Buffer.compare(await exported.readRaw(name), await original.readRaw(source)), name).toBe(0);
        }
      }
      const config = (from: string) => JSON.parse(readFileSync(join(from, 'config.json'), 'utf8'));
      expect(config(model)).toMatchObject(golden.startsWith('crammed') ? config(out) : { hidden_size: config(out).hidden_size });
      expect(readFileSync(join(out, 'tokenizer.json'), 'utf8').length).toBeGreaterThan(100);
    },
  );

  test.each(['bf16', 'f16'] as const)('in %s: half the bytes, and the nearest values', async (dtype) => {
    const [model, out] = [modelOf('crammed-bert-fff'), join(folder, dtype)];
    expect((await ufb(['export', 'safetensors', '--model', model, '--out', out, '--dtype', dtype])).code).toBe(0);
    await using before = await readSafetensors(join(model, 'model.safetensors'));
    await using after = await readSafetensors(join(out, 'model.safetensors'));
    for (const name of before.names) {
      // A single number costs nothing and stays exact.
      if (after.info(name).shape.every((extent) => extent === 1)) {
        expect(after.info(name).dtype).toBe('F32');
        expect(await after.read(name)).toEqual(await before.read(name));
        continue;
      }
      expect(after.info(name).dtype).toBe(dtype.toUpperCase());
      const [expected, values] = [await before.read(name), await after.read(name)];
      const step = dtype === 'f16' ? 2 ** -11 : 2 ** -8;
      for (let i = 0; i < values.length; i++)
        expect(Math.abs(values[i] - expected[i])).toBeLessThanOrEqual(Math.max(step * Math.abs(expected[i]), 2 ** -25));
    }
  });

  test('onto links is refused, be what they lead to read or not', async () => {
    const [model, out] = [modelOf('crammed-bert-dense'), join(folder, 'of-links')];
    mkdirSync(out);
    symlinkSync(join(model, 'model.safetensors'), join(out, 'model.safetensors'));
    const before = readFileSync(join(model, 'model.safetensors'));
    const { code, stderr } = await ufb(['export', 'safetensors', '--model', model, '--dtype', 'f16', '--out', out]);
    expect([code, stderr]).toEqual([2, expect.stringContaining('model.safetensors is a link')]);
    expect(readFileSync(join(model, 'model.safetensors')).equals(before)).toBe(true);
  });

  test('onto itself is refused', async () => {
    const model = modelOf('crammed-bert-dense');
    const link = join(folder, 'link');
    symlinkSync(model, link);
    for (const [kind, out] of [
      ['safetensors', model],
      ['safetensors', link],
      ['onnx', join(link, 'model.safetensors')],
    ]) {
      const { code, stderr } = await ufb(['export', kind, '--model', model, '--out', out]);
      expect([code, stderr]).toEqual([
        2,
        expect.stringMatching(/--out .* is (.*, which is read: expected another|a file of the model in .*, expected another)\n$/),
      ]);
    }
  });

  test('into the folder of the model, and again', async () => {
    const model = join(folder, 'copy');
    cpSync(modelOf('crammed-bert-dense'), model, { recursive: true });
    for (let i = 0; i < 2; i++)
      expect((await ufb(['export', 'onnx', '--model', model, '--out', join(model, 'model.onnx'), '--quiet'])).code).toBe(0);
  });
});

describe('a decoder', () => {
  const model = join(folder, 'decoder');
  beforeAll(async () => {
    await writeTinyDecoder(model, { family: 'gpt2', feedforward: { kind: 'dense', neurons: 24 } });
    writeFileSync(join(model, 'generation_config.json'), '{ "top_k": 3 }');
  });

  test('comes out as it came, with how it writes', async () => {
    const out = join(folder, 'decoder out');
    const { code, stderr } = await ufb(['export', 'safetensors', '--model', model, '--out', out]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: `${out}: gpt2, f32\n` });
    for (const name of ['model.safetensors', 'generation_config.json', 'tokenizer.json', 'tokenizer_config.json'])
      expect(readFileSync(join(out, name)).equals(readFileSync(join(model, name))), name).toBe(true);
  });

  test('as ONNX takes and gives what it keeps of the tokens before', async () => {
    const out = join(folder, 'decoder.onnx');
    const { code, stderr } = await ufb(['export', 'onnx', '--model', model, '--out', out]);
    expect(code).toBe(0);
    expect(stderr).toContain(
      'input_ids, attention_mask, position_ids, past_key_values.0.key, past_key_values.0.value to logits, present.0.key, present.0.value, opset',
    );
    const session = await InferenceSession.create(out);
    expect(session.outputNames).toHaveLength(1 + 2 * 2);
    await session.release();
  });
});
