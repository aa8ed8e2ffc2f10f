import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { InputError } from '../../src/errors.ts';
import { weightsIndex } from '../../src/io/model_files.ts';
import { openWeights, resolveModelFolder } from '../../src/io/model_folder.ts';
import { loadModel } from '../../src/models/checkpoint.ts';
import { exportParameter } from '../../src/nn/parameter_arrays.ts';
import { pipeline } from '../../src/pipelines/pipeline.ts';
import { loadTokenizer } from '../../src/tokenizer/tokenizer_config.ts';
import { temporaryFolder } from '../temporary.ts';
import { copyInShards, writeTinyModel } from '../tiny_model.ts';

const folder = temporaryFolder();
const model = join(folder, 'model');
beforeAll(() => writeTinyModel(model));

async function shard(name: string): Promise<{ to: string; map: Record<string, string> }> {
  const to = join(folder, name);
  return { to, map: await copyInShards(model, to) };
}

test('weights in several files are as those in one', async () => {
  const { to } = await shard('shards');
  expect(await resolveModelFolder(to)).toBe(to);
  await using joined = await openWeights(to);
  await using whole = await openWeights(model);
  expect([...joined.names].sort()).toEqual([...whole.names].sort());
  for (const name of whole.names) expect(await joined.read(name)).toEqual(await whole.read(name));

  const device = new ReferenceDevice();
  const [one, other] = [await loadModel(model, device), await loadModel(to, device)];
  for (const [i, parameter] of one.parameters.entries()) {
    expect(await exportParameter(other.parameters[i])).toEqual(await exportParameter(parameter));
  }
});

describe('refused', () => {
  const refusal = async (to: string) => {
    const device = new ReferenceDevice();
    const error = await loadModel(to, device).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(InputError);
    return (error as Error).message;
  };

  test.each<[string, (map: Record<string, string>, to: string) => unknown, RegExp]>([
    ['no map', () => ({}), /index\.json: 'weight_map' is not a map/],
    ['an empty map', () => ({ weight_map: {} }), /names 0 files, expected 1 to 1000/],
    ['a file elsewhere', (map) => ({ weight_map: { ...map, x: '../model/model.safetensors' } }), /names the file "\.\.\/model/],
    [
      'a tensor that is not there',
      (map) => ({ weight_map: { ...map, x: Object.values(map)[0] } }),
      /has tensor 'x' in model-00001-of-00003/,
    ],
    [
      'a file that is missing',
      (map, to) => {
        rmSync(join(to, 'model-00002-of-00003.safetensors'));
        return { weight_map: map };
      },
      /model-00002-of-00003\.safetensors: cannot read: no such file/,
    ],
    [
      'a tensor twice',
      (map, to) => {
        cpSync(join(to, 'model-00002-of-00003.safetensors'), join(to, 'model-9.safetensors'));
        return {
          weight_map: { ...map, [Object.entries(map).find(([, name]) => name.includes('00002'))?.[0] as string]: 'model-9.safetensors' },
        };
      },
      /holds tensor '.*', which another file of this model holds too/,
    ],
  ])('%s', async (name, change, message) => {
    const { to, map } = await shard(`refused ${name}`);
    writeFileSync(join(to, weightsIndex), JSON.stringify(change(map, to)));
    expect(await refusal(to)).toMatch(message);
  });

  test('a name that could lead out of the folder, though there are weights', async () => {
    const { to, map } = await shard('hostile');
    const outside = ['../model/model.safetensors', join(model, 'model.safetensors'), './../model/model.safetensors'];
    const hostile = fc.oneof(
      fc.constantFrom(...outside, '../../etc/passwd', '/etc/passwd', 'C:\\model.safetensors', '..\\model.safetensors', '.', '..', ''),
      fc.constantFrom(
        'a/b.safetensors',
        '.a.safetensors',
        'a.safetensors\n',
        'a\0.safetensors',
        'http://a/b.safetensors',
        'a.safetensors?b',
      ),
      fc.string({ unit: 'binary' }).map((name) => `${name}/model.safetensors`),
      fc.string({ unit: 'binary' }),
    );
    await fc.assert(
      fc.asyncProperty(hostile, fc.constantFrom(...Object.keys(map)), async (name, tensor) => {
        writeFileSync(join(to, weightsIndex), JSON.stringify({ weight_map: { ...map, [tensor]: name } }));
        const message = await refusal(to);
        expect(message).toContain(`${join(to, weightsIndex)}: names the file "`);
        expect(message).not.toMatch(/[\p{Cc}\u2028\u2029]/u);
      }),
    );
  });

  test('a file that can run code, with the way to convert it', async () => {
    const to = join(folder, 'pickled');
    mkdirSync(to);
    for (const name of ['config.json', 'tokenizer.json']) writeFileSync(join(to, name), readFileSync(join(model, name)));
    writeFileSync(join(to, 'pytorch_model.bin'), 'x');
    await expect(resolveModelFolder(to)).rejects.toThrow(
      /can run code when it is opened, expected model\.safetensors; write that file beside it, .* python -c ".*weights_only=True.*" '.*pickled'$/,
    );
  });

  test('a vocabulary alone, where the tokenizer is of a class that needs more', async () => {
    const to = join(folder, 'vocabulary');
    cpSync(model, to, { recursive: true });
    rmSync(join(to, 'tokenizer.json'));
    writeFileSync(join(to, 'vocab.txt'), '[PAD]\n');
    writeFileSync(join(to, 'tokenizer_config.json'), '{"tokenizer_class": "XLNetTokenizer"}');
    expect(await resolveModelFolder(to)).toBe(to);
    await expect(loadTokenizer(to)).rejects.toThrow(
      /vocab\.txt: is read by itself where the tokenizer's class is BertTokenizer, found "XLNetTokenizer" in tokenizer_config\.json; expected a tokenizer\.json beside it$/,
    );
    writeFileSync(join(to, 'tokenizer_config.json'), '{"tokenizer_class": "BertTokenizer"}');
    writeFileSync(join(to, 'vocab.txt'), Buffer.from([0x41, 0xe9, 0x0a]));
    await expect(loadTokenizer(to)).rejects.toThrow(/vocab\.txt: holds bytes that are no UTF-8, expected a token a line$/);
  });

  test('pointers of Git LFS in place of files', async () => {
    const to = join(folder, 'pointers');
    cpSync(model, to, { recursive: true });
    const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${'0'.repeat(64)}\nsize 103644\n`;
    for (const name of ['model.safetensors', 'config.json', 'tokenizer.json']) {
      writeFileSync(join(to, name), pointer);
      const error = await pipeline('fill-mask', to, { device: new ReferenceDevice() }).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(InputError);
      expect((error as Error).message).toMatch(new RegExp(`${name}: is a pointer of Git LFS, .*: 'git lfs pull' in the clone`));
    }
  });

  test('no weights at all', async () => {
    const to = join(folder, 'none');
    cpSync(model, to, { recursive: true });
    rmSync(join(to, 'model.safetensors'));
    expect(await refusal(to)).toMatch(/model\.safetensors: cannot read: no such file/);
    await expect(resolveModelFolder(to)).rejects.toThrow(/lacks model\.safetensors; a model folder holds/);
  });
});
