import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { InputError } from '../../src/errors.ts';
import { type PipelineOptions, pipeline } from '../../src/pipelines/pipeline.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyModel } from '../tiny_model.ts';

const folder = join(temporaryFolder(), 'model');
beforeAll(() => writeTinyModel(folder));

test('a backend by name', async () => {
  const named = await pipeline('fill-mask', folder, { device: 'reference' });
  const own = await pipeline('fill-mask', folder, { device: new ReferenceDevice() });
  expect(await named('a [MASK]')).toEqual(await own('a [MASK]'));
  await Promise.all([named.dispose(), own.dispose()]);
});

test("transformers.js's names of devices, precisions and tasks are taken", async () => {
  const answer = async (options: PipelineOptions) => {
    const fill = await pipeline('fill-mask', folder, options);
    try {
      return await fill('a [MASK]');
    } finally {
      await fill.dispose();
    }
  };
  const notices: string[] = [];
  const notice = (line: string) => void notices.push(line);
  for (const [theirs, ours] of [
    ['fp32', 'f32'],
    ['fp16', 'bf16'],
    ['q8', 'i8'],
  ] as const)
    expect(await answer({ device: 'reference', dtype: theirs, notice })).toEqual(
      await answer({ device: 'reference', dtype: ours, notice }),
    );
  expect(await answer({ device: 'cpu', notice })).toEqual(await answer({ device: 'auto', notice }));
});

describe('refused', () => {
  test.each([
    [{ dtype: 'f64' }, 'dtype: got "f64", expected one of f32, bf16, i8'],
    [{ dtype: null }, 'dtype: got null, expected one of f32, bf16, i8'],
    [{ device: 'cuda' }, "device 'cuda' is none of native, wasm, webgpu, reference"],
    [{ device: 'wasm', threads: 0 }, 'threads: 0 is not a count from 1 to 64'],
  ])('an option, before the model is looked for: %j', async (options, message) => {
    await expect(pipeline('fill-mask', join(folder, 'nowhere'), options as never)).rejects.toThrow(new InputError(message));
  });

  test('a task, and a folder that is not there', async () => {
    await expect(pipeline('fill-masks' as 'fill-mask', folder)).rejects.toThrow(
      'task "fill-masks" is not known, expected one of fill-mask, ',
    );
    await expect(pipeline('fill-mask', join(folder, 'nowhere'))).rejects.toThrow('no such folder');
  });

  test('not: a tokenizer of more tokens than the model knows, of which a notice tells', async () => {
    const other = `${folder} with another tokenizer`;
    cpSync(folder, other, { recursive: true });
    const tokenizer = JSON.parse(readFileSync(join(other, 'tokenizer.json'), 'utf8'));
    const size = Object.keys(tokenizer.model.vocab).length;
    tokenizer.model.vocab.more = size;
    writeFileSync(join(other, 'tokenizer.json'), JSON.stringify(tokenizer));
    const message = `${other}: tokenizer.json has ${size + 1} tokens, but config.json gives the model ${size}: they do not belong together`;
    const said: string[] = [];
    await (await pipeline('fill-mask', other, { device: 'reference', notice: (line) => said.push(line) })).dispose();
    expect(said).toEqual([message]);
  });
});

test('why there is no native backend is told where none was named, once a process', async () => {
  vi.resetModules(); // the add-on is looked for once
  vi.stubEnv('UFB_NATIVE', '0');
  try {
    const { pipeline } = await import('../../src/pipelines/pipeline.ts');
    const said: string[] = [];
    const options = { notice: (line: string) => said.push(line) };
    await (await pipeline('fill-mask', folder, { ...options, device: 'wasm' })).dispose();
    expect(said).toEqual([]);
    for (let i = 0; i < 2; i++) await (await pipeline('fill-mask', folder, options)).dispose();
    expect(said).toEqual([expect.stringMatching(/^the native backend is turned off by UFB_NATIVE=0; using WASM[^\n]*$/)]);
  } finally {
    vi.unstubAllEnvs();
    vi.resetModules();
  }
});
