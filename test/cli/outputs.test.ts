import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { checkOutput } from '../../src/cli/outputs.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyModel } from '../tiny_model.ts';
import { ufb } from './ufb.ts';

const folder = temporaryFolder();
const at = (...names: string[]) => join(folder, ...names);
const write = (...names: string[]) => {
  mkdirSync(dirname(at(...names)), { recursive: true });
  writeFileSync(at(...names), 'what was there');
};
const model = at('model');
beforeAll(async () => {
  await writeTinyModel(model);
  write('model', '1_Pooling', 'config.json');
  write('model', 'notes.txt');
  for (const name of ['tokenizer.json', 'run/options.json', 'run/RTE-0/run/state.safetensors']) write('a-run', name);
  write('plain', 'tokenizer.json');
  symlinkSync(at('a-run'), at('link'));
  write('text.txt');
});

describe('what a command must not write', () => {
  test.each([
    [['model', 'model.safetensors'], /is a file of the model in .*model, expected another/],
    [['model', 'config.json'], /is a file of the model/],
    [['model', '1_Pooling', 'config.json'], /is a file of the model/],
    [['a-run', 'tokenizer.json'], /is a file of the model/],
    [['a-run', 'run', 'options.json'], /lies in .*run, which a run is resumed from/],
    [['a-run', 'run', 'new.txt'], /lies in .*run, which a run is resumed from/],
    [['link', 'run', 'RTE-0', 'run', 'state.safetensors'], /lies in .*run, which a run is resumed from/],
    [['text.txt'], /is .*text\.txt, which is read/],
  ])('%j', async (names, message) => {
    await expect(checkOutput('--out', at(...names), { read: [undefined, at('nothing'), at('text.txt')] })).rejects.toThrow(message);
  });

  test.each([
    ['model', 'notes.txt'],
    ['model', 'model.onnx'],
    ['plain', 'tokenizer.json'],
    ['a-run', 'curve.svg'],
    ['new', 'config.json'],
  ])('but %s/%s', async (...names) => {
    await checkOutput('--out', at(...names), { read: [at('text.txt')] });
  });

  test("what is to lie in a run's own folder, by whatever name", async () => {
    for (const names of [
      ['a-run', 'log'],
      ['a-run', 'logs', 'log'],
      ['link', 'log'],
    ])
      await expect(checkOutput('--log', at(...names), { folder: at('a-run') }), `${names}`).rejects.toThrow(/which is kept for the run/);
    await checkOutput('--log', at('a-run.log'), { folder: at('a-run') });
  });
});

test('no command writes over a model', async () => {
  const before = ['model.safetensors', 'tokenizer.json', 'config.json'].map((name) => readFileSync(join(model, name), 'utf8'));
  writeFileSync(at('classes.tsv'), `text\tlabel\n${'the cat\tx\nthe dog\ty\n'.repeat(10)}`);
  for (const args of [
    ['inspect', '--model', model, '--text', 'the cat', '--out', join(model, 'model.safetensors')],
    ['embed', '--model', model, '--in', at('text.txt'), '--out', join(model, 'tokenizer.json')],
    ['finetune', '--model', model, '--train', at('classes.tsv'), '--out', at('tuned'), '--log', join(model, 'config.json')],
    ['tokenizer', '--corpus', at('text.txt'), '--out', join(model, 'tokenizer.json')],
    ['export', 'onnx', '--model', model, '--out', join(model, 'config.json')],
  ])
    expect(await ufb(args), args[0]).toMatchObject({ code: 2, stderr: expect.stringContaining('is a file of the model in') });
  expect(await ufb(['export', 'safetensors', '--model', model, '--out', at('a-run')])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('holds a run'),
  });
  expect(await ufb(['export', 'safetensors', '--model', at('model'), '--out', at('link')])).toMatchObject({ code: 2 });
  expect(['model.safetensors', 'tokenizer.json', 'config.json'].map((name) => readFileSync(join(model, name), 'utf8'))).toEqual(before);
});

test("a file that only has the name of embed's part stays, be it what is read or not", async () => {
  const embed = (input: string) => ufb(['embed', '--model', model, '--in', input, '--out', at('vectors.jsonl'), '--quiet']);
  writeFileSync(at('vectors.jsonl.part'), 'the cat\n');
  expect(await embed(at('vectors.jsonl.part'))).toMatchObject({ code: 2, stderr: expect.stringContaining('which is read') });
  expect(await embed(at('text.txt'))).toMatchObject({ code: 2, stderr: expect.stringContaining('is not what was left of vectors here') });
  expect(readFileSync(at('vectors.jsonl.part'), 'utf8')).toBe('the cat\n');
});

test("what a crash of embed's leaves is taken away by the next run", async () => {
  writeFileSync(at('lines.txt'), 'the cat\n');
  for (const left of ['again.jsonl.part', 'again.jsonl.part.json']) {
    for (const name of ['again.jsonl.part', 'again.jsonl.part.json']) rmSync(at(name), { force: true });
    writeFileSync(at(left), '');
    const { code, stderr } = await ufb(['embed', '--model', model, '--in', at('lines.txt'), '--out', at('again.jsonl'), '--quiet']);
    expect(code, stderr).toBe(0);
    expect(readFileSync(at('again.jsonl'), 'utf8').trim().split('\n')).toHaveLength(1);
  }
});
