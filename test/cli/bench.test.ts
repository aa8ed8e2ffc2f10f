import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { nativeMissing } from '../../src/backend/create.ts';
import { goldenPath } from '../goldens.ts';
import { temporaryFolder } from '../temporary.ts';
import { generatedSentences, writeTinyModel } from '../tiny_model.ts';
import { ufb } from './ufb.ts';

const small = ['bench', 'depth', '--device', 'reference', '--width', '8', '--batch', '16', '--batches', '1', '--rounds', '1'];

test('ufb bench depth prints a line a depth and the ratio', async () => {
  const { code, stdout, stderr } = await ufb([...small, '--from', '1', '--to', '3']);
  expect([code, stderr]).toEqual([0, '']);
  expect(stdout).toMatch(/^ +1 +3 .*\n +2 +7 .*\n +3 +15 .*$/m);
  expect(stdout).toMatch(/depth 3 over depth 1: forward [\d.]+, backward [\d.]+, both [\d.]+ \(nodes a token: 2\.00\)/);
});

test('ufb bench depth --json', async () => {
  const { code, stdout } = await ufb([...small, '--from', '2', '--to', '2', '--json']);
  const report = JSON.parse(stdout);
  expect(code).toBe(0);
  expect(report.results[0]).toMatchObject({ depth: 2, neurons: 7, bytes: 7 * 17 * 4 });
  expect(report.ratios).toEqual({ forward: 1, backward: 1, forwardAndBackward: 1 });
});

test('ufb bench depth --out writes JSON and a picture', async () => {
  const folder = join(temporaryFolder(), 'depth');
  const { code, stderr } = await ufb([...small, '--from', '1', '--to', '6', '--quick', '--out', folder]);
  expect([code, stderr]).toEqual([0, '']);
  const report = JSON.parse(readFileSync(join(folder, 'depth.json'), 'utf8'));
  expect(report.results.map(({ depth }: { depth: number }) => depth)).toEqual([1, 5]);
  expect(readFileSync(join(folder, 'depth.svg'), 'utf8')).toMatch(/^<svg[\s\S]*AdamW[\s\S]*<\/svg>$/);
});

const training = [
  'bench',
  'training',
  '--layers',
  '2',
  '--hidden',
  '16',
  '--heads',
  '2',
  '--depth',
  '3',
  '--intermediate',
  '24',
  '--length',
  '8',
];

test('ufb bench training sets trees beside dense layers, and says how PyTorch can be had', async () => {
  const folder = join(temporaryFolder(), 'training');
  const options = ['--vocabulary', '30', '--batch', '2', '--quick', '--python', 'no-such-python', '--out', folder];
  const { code, stdout, stderr } = await ufb([...training, ...options]);
  expect(stderr).toMatch(
    /^PyTorch is not measured \(no-such-python: .*ENOENT\): pip install torch, and name its python by --python or UFB_PYTHON\n$/,
  );
  expect(code).toBe(0);
  expect(stdout).toMatch(/^ours, trees 1x3 +\d+ \(\d+-\d+\) +1\.00x/m);
  expect(stdout).toMatch(/^ours, dense 24 +\d+ \(\d+-\d+\) +[\d.]+x/m);
  const report = JSON.parse(readFileSync(join(folder, 'training.json'), 'utf8'));
  expect(report.results).toHaveLength(2);
  expect(readFileSync(join(folder, 'training.svg'), 'utf8')).toMatch(/^<svg[\s\S]*tokens a second[\s\S]*<\/svg>$/);
});

// A peer that few machines have: UFB_PYTHON names a Python with PyTorch.
const python = process.env.UFB_PYTHON;

test.skipIf(!python)(
  `PyTorch starts from our weights and has our loss${python ? '' : ' (skipped: UFB_PYTHON names no Python with PyTorch)'}`,
  async () => {
    const { code, stdout } = await ufb([...training, '--vocabulary', '30', '--batch', '2', '--quick', '--json']);
    expect(code).toBe(0);
    const [, ours, torch] = JSON.parse(stdout).results;
    expect(torch.name).toMatch(/^PyTorch [\d.]+\S* in f32, dense 24$/);
    expect(torch.firstLoss).toBeCloseTo(ours.firstLoss, 5);
  },
  60_000,
);

test('depths that are none are refused', async () => {
  const { code, stderr } = await ufb([...small, '--from', '3', '--to', '2']);
  expect(code).toBe(2);
  expect(stderr).toBe('ufb: depths from 3 to 2: expected --from at most --to, and --to at most 20\n');
});

// onnxruntime is set beside the native backend only.
const missing = nativeMissing();

test.skipIf(missing)('ufb bench layer prints a table, and writes JSON and a picture', async () => {
  const folder = join(temporaryFolder(), 'report');
  const options = ['--width', '16', '--configs', '1x3,2x0', '--batch', '1,4', '--dtype', 'f32,i8', '--quick', '--out', folder];
  const { code, stdout, stderr } = await ufb(['bench', 'layer', ...options]);
  expect([code, stderr]).toEqual([0, '']);
  expect(stdout).toMatch(/^2x0 16, batch 4 +dtype +us\/token +over ours +error\nours trees +i8 +[\d.]+ \([\d.]+-[\d.]+\)/m);
  expect(stdout).toMatch(/onnxruntime [\d.]+ trees by standard operators +f32/);
  const report = JSON.parse(readFileSync(join(folder, 'layer.json'), 'utf8'));
  expect(report).toMatchObject({ threads: 1, machine: expect.stringContaining('1 thread') });
  expect(report.results).toHaveLength(8);
  expect(report.results[0]).toMatchObject({
    config: '1x3 16',
    batch: 1,
    dtype: 'f32',
    usPerToken: expect.any(Number),
    ratio: expect.any(Number),
  });
  const row = stdout.split('\n').find((line) => line.startsWith('ours trees'));
  expect(row?.split(/ +/).at(-1)).toBe(report.results[0].maxRelativeError.toExponential(1));
  expect(report.results[0].peers[0]).toMatchObject({ name: 'ours dense', dtype: 'f32', usPerToken: expect.any(Number) });
  expect(readFileSync(join(folder, 'layer.svg'), 'utf8')).toMatch(/^<svg[\s\S]*microseconds a token[\s\S]*<\/svg>$/);
});

test.skipIf(missing)('ufb bench layer --text measures a layer of a model on the hidden states of a text', async () => {
  const folder = temporaryFolder();
  await writeTinyModel(folder);
  const text = join(folder, 'text.txt');
  writeFileSync(text, Array.from({ length: 5 }, () => generatedSentences().join('\n')).join('\n\n'));
  const options = ['--model', folder, '--text', text, '--layer', '0', '--batch', '4', '--dtype', 'f32', '--quick'];
  const { code, stdout, stderr } = await ufb(['bench', 'layer', ...options]);
  expect([code, stderr]).toEqual([0, '']);
  expect(stdout).toMatch(/^layer 0 of .*: 1024 tokens of .*text\.txt reach [1-8] of 8 leaves$/m);
  expect(stdout).toMatch(/^1x3 16, batch 4 +dtype/m);
});

test.skipIf(missing)('ufb bench conditional-matmul prints a table for each size, and writes JSON and a picture', async () => {
  const folder = join(temporaryFolder(), 'conditional');
  const shape = ['--width', '16', '--neurons', '32', '--block-size', '1,4', '--chosen', '4', '--batch', '2'];
  const { code, stdout, stderr } = await ufb(['bench', 'conditional-matmul', ...shape, '--quick', '--out', folder]);
  expect([code, stderr]).toEqual([0, '']);
  expect(stdout).toMatch(/^4 of 32 rows \(13 %\), blocks of 4, batch 2 +us\/token +over ours +error\nours +[\d.]+ \([\d.]+-[\d.]+\)/m);
  expect(stdout).toMatch(/^onnxruntime [\d.]+ Gather and MatMul +[\d.]+/m);
  const report = JSON.parse(readFileSync(join(folder, 'conditional-matmul.json'), 'utf8'));
  expect(report).toMatchObject({ threads: 1, width: 16, neurons: 32 });
  expect(report.results[1]).toMatchObject({ batch: 2, blockSize: 4, chosen: 4, usPerToken: expect.any(Number), ratio: expect.any(Number) });
  expect(readFileSync(join(folder, 'conditional-matmul.svg'), 'utf8')).toMatch(/^<svg[\s\S]*microseconds a token[\s\S]*<\/svg>$/);
});

test.skipIf(missing)('ufb bench model prints a row for each encoder', async () => {
  const shape = ['--layers', '1', '--hidden', '16', '--heads', '2', '--intermediate', '24', '--depth', '2', '--length', '5'];
  const { code, stdout, stderr } = await ufb(['bench', 'model', ...shape, '--batch', '2', '--dtype', 'f32', '--rounds', '1', '--quick']);
  expect([code, stderr]).toEqual([0, '']);
  expect(stdout).toMatch(/^batch 2, ours 1x2 +f32 +[\d.]+ \([\d.]+-[\d.]+\) +[\d.]+x/m);
  expect(stdout).toMatch(/^batch 2, onnxruntime [\d.]+ dense-24 +f32/m);
});

test.skipIf(missing)('ufb bench model --model measures a model as it is', async () => {
  const model = goldenPath('hf-bert');
  const folder = join(temporaryFolder(), 'hf-bert');
  cpSync(model, folder, { recursive: true });
  cpSync(goldenPath('tokenizers', 'bert.json'), join(folder, 'tokenizer.json'));
  const options = ['--depth', '2', '--batch', '2', '--dtype', 'f32', '--rounds', '1', '--quick'];
  const { code, stdout, stderr } = await ufb(['bench', 'model', '--model', folder, '--length', '7', ...options]);
  expect([code, stderr]).toEqual([0, '']);
  const { hidden_size, num_hidden_layers, intermediate_size } = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  expect(stdout).toContain(`${num_hidden_layers} layers of ${hidden_size} (${folder}), 7 tokens a sequence`);
  expect(stdout).toMatch(new RegExp(`^batch 2, onnxruntime [\\d.]+ dense-${intermediate_size} +f32`, 'm'));
  const refused = (...more: string[]) => ufb(['bench', 'model', '--model', folder, ...more]);
  expect((await refused('--layers', '3')).stderr).toMatch(/--layers and --model are both given/);
  expect((await refused('--length', '100000')).stderr).toMatch(/--length 100000: .* takes at most \d+ tokens/);
  expect((await ufb(['bench', 'model', '--model', 'models/ultrafastbert-small'])).stderr).toMatch(/'model_type' is "crammedBERT"/);
});

test('ufb bench scaling prints a line for each shape, and writes JSON and a picture', async () => {
  const folder = join(temporaryFolder(), 'scaling');
  const shape = ['--width', '8', '--depth', '2', '--depths', '1,2', '--widths', '4,8', '--trees', '2', '--batch', '3'];
  const { code, stdout, stderr } = await ufb(['bench', 'scaling', '--device', 'reference', ...shape, '--quick', '--out', folder]);
  expect([code, stderr]).toEqual([0, '']);
  expect(stdout.match(/^ *[12]x[12] +[48] +3 +1 +[\d.]+ \([\d.]+-[\d.]+\) .*$/gm)).toHaveLength(4);
  const report = JSON.parse(readFileSync(join(folder, 'scaling.json'), 'utf8'));
  expect(report).toMatchObject({ width: 8, depth: 2 });
  expect(report.results[0]).toMatchObject({ trees: 1, depth: 1, width: 8, batch: 3, threads: 1, denseNeurons: expect.any(Number) });
  expect(readFileSync(join(folder, 'scaling.svg'), 'utf8')).toMatch(/^<svg[\s\S]*neurons that trees use[\s\S]*<\/svg>$/);
});

test('sizes that are none are refused', async () => {
  const file = join(temporaryFolder(), 'a-file');
  writeFileSync(file, 'kept');
  expect(await ufb(['bench', 'layer', '--out', join(file, 'x')])).toMatchObject({
    code: 2,
    stdout: '',
    stderr: expect.stringContaining('cannot write'),
  });
  expect(await ufb(['bench', 'layer', '--text', file, '--width', '64'])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('--width and --text'),
  });
  expect(await ufb(['bench', 'layer', '--configs', '1y2'])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('expected trees x depth'),
  });
  expect(await ufb(['bench', 'layer', '--batch', '0'])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('--batch 0: expected whole numbers'),
  });
  expect(await ufb(['bench', 'layer', '--layer', '1'])).toMatchObject({ code: 2, stderr: expect.stringContaining('--layer needs --text') });
  expect(await ufb(['bench', 'conditional-matmul', '--block-size', '3'])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('expected a divisor of --neurons 4096'),
  });
  expect(await ufb(['bench', 'model', '--dtype', 'f64'])).toMatchObject({ code: 2, stderr: expect.stringContaining('f32, bf16, i8') });
});

test('ufb bench decode: trees and dense layers, and the figures as JSON and as a picture', async () => {
  const folder = temporaryFolder();
  const shape = ['--layers', '1', '--hidden', '16', '--heads', '2', '--vocabulary', '40', '--prompt', '4', '--written', '3'];
  const kinds = ['--depth', '2', '--intermediate', '24', '--dtype', 'f32,i8', '--batch', '2'];
  const { code, stdout } = await ufb(['bench', 'decode', '--device', 'reference', ...shape, ...kinds, '--quick', '--out', folder]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/tokens\/s +over our dense +over onnxruntime +prompt, ms +MB a token +GB\/s +error\n/);
  expect(stdout).toMatch(/\nbatch 2, ours 1x2 +f32 +[\d.]+ \([\d.]+-[\d.]+\) +[\d.]+x/);
  const { results } = JSON.parse(readFileSync(join(folder, 'decode.json'), 'utf8'));
  expect(results.map(({ name, dtype }: { name: string; dtype: string }) => `${name} ${dtype}`)).toEqual([
    'ours 1x2 f32',
    'ours 1x2 i8',
    'ours dense 24 f32',
    'ours dense 24 i8',
  ]);
  expect(readFileSync(join(folder, 'decode.svg'), 'utf8')).toContain('tokens a second');
});
