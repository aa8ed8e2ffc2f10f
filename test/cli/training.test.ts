import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { beforeAll, expect, test } from 'vitest';
import { temporaryFolder } from '../temporary.ts';
import { generatedSentences, writeTinyModel } from '../tiny_model.ts';
import { ufb } from './ufb.ts';

const folder = temporaryFolder();
const at = (name: string) => join(folder, name);
const reference = ['--device', 'reference', '--quiet'];

beforeAll(async () => {
  await writeTinyModel(at('model'));
  writeFileSync(at('text.txt'), generatedSentences().join('\n\n'));
  writeFileSync(at('empty.txt'), '');
  writeFileSync(
    at('binary.bin'),
    Uint8Array.from({ length: 5000 }, (_, i) => (i * 167) % 256),
  );
  writeFileSync(at('cut.txt.gz'), gzipSync(generatedSentences().join('\n\n')).subarray(0, 200));
});

async function refused(args: string[], message: RegExp): Promise<void> {
  const { code, stdout, stderr } = await ufb(args);
  expect(stderr).toMatch(/^ufb: [^\n]+\n$/);
  expect(stderr).toMatch(message);
  expect(stdout).toBe('');
  expect(code).toBe(2);
}

test.concurrent.each([
  ['empty', 'empty.txt', /corpus/],
  ['not text', 'binary.bin', /binary\.bin, line \d+: is not UTF-8 text/],
  ['missing', 'nowhere.txt', /nowhere\.txt: cannot read: no such file/],
  ['a damaged gzip stream', 'cut.txt.gz', /cut\.txt\.gz: the gzip stream is damaged or cut short/],
])('a corpus that is %s is refused and leaves nothing behind', async (name, file, message) => {
  const out = at(`out-${name.replaceAll(' ', '-')}`);
  await refused(['pretrain', ...reference, '--tokens', '1000', '--vocabulary', '200', '--corpus', at(file), '--out', out], message);
  expect(existsSync(out) ? readdirSync(out) : []).toEqual([]);
});

test.concurrent('a folder that cannot be written is refused before any work', async () => {
  const options = ['pretrain', ...reference, '--tokens', '1000', '--corpus', at('text.txt'), '--out'];
  await refused([...options, at('empty.txt')], /empty\.txt: cannot write/);
  await refused([...options, join(at('empty.txt'), 'below')], /below: cannot write: a part of the path is not a folder/);
});

test.concurrent('options that do not make a run', async () => {
  const out = ['--out', at('no-run')];
  await refused(['pretrain', ...reference, ...out, '--tokens', '1000'], /--corpus/);
  await refused(['pretrain', ...reference, ...out, '--corpus', at('text.txt')], /budget/);
  await refused(['pretrain', ...reference, ...out, '--resume'], /no run to resume/);
  const run = ['pretrain', ...reference, ...out, '--corpus', at('text.txt'), '--tokens', '1000'];
  await refused([...run, '--batch', '100000000000'], /expected at most 16777216/);
  await refused([...run, '--balance', '1e30'], /--balance <rate>' argument '1e30' is invalid. expected a number from 0 to 100/);
  expect(existsSync(at('no-run'))).toBe(false);
});

test.concurrent('evaluation refuses bad texts and models', async () => {
  const evaluate = ['eval', 'mlm', ...reference, '--model', at('model'), '--text'];
  await refused([...evaluate, at('empty.txt')], /empty\.txt: the tokenizer makes no token of it/);
  await refused([...evaluate, at('binary.bin')], /is not UTF-8 text/);
  await refused([...evaluate, at('nowhere.txt')], /no such file/);
  mkdirSync(at('no-model'));
  await refused(['eval', 'mlm', ...reference, '--text', at('text.txt'), '--model', at('no-model')], /a model folder holds config\.json/);
});

test('what was trained fills masks and is evaluated', async () => {
  const out = at('trained');
  const shape = [
    '--vocabulary',
    '200',
    '--layers',
    '1',
    '--hidden',
    '16',
    '--heads',
    '2',
    '--depth',
    '3',
    '--length',
    '16',
    '--batch',
    '4',
    '--seed',
    '3',
  ];
  const trained = await ufb(['pretrain', ...reference, '--json', ...shape, '--tokens', '1280', '--corpus', at('text.txt'), '--out', out]);
  expect(trained.code, trained.stderr).toBe(0);
  expect(JSON.parse(trained.stdout)).toMatchObject({ tokens: 1280 });
  const filled = await ufb(['fill-mask', ...reference, '--json', '--model', out, 'the cat sees [MASK] .']);
  expect(filled.code, filled.stderr).toBe(0);
  const evaluated = await ufb(['eval', 'mlm', ...reference, '--json', '--model', out, '--text', at('text.txt'), '--max-tokens', '1000']);
  expect(evaluated.code, evaluated.stderr).toBe(0);
  const scores = JSON.parse(evaluated.stdout);
  for (const name of ['loss', 'lossPerByte', 'top1', 'top5', 'tokens', 'unigramLoss', 'mostFrequentTop1'])
    expect(scores[name]).toEqual(expect.any(Number));
  expect(scores.layers).toEqual([{ leaves: 8, used: expect.any(Number), entropy: expect.any(Number), mostCrowded: expect.any(Number) }]);
  const shown = await ufb(['eval', 'mlm', ...reference, '--model', out, '--text', at('text.txt'), '--max-tokens', '1000']);
  expect(shown.stdout).toMatch(/\nlayer 1 +\d of 8 +\d\.\d +\d+\.\d %\n$/);
  const said = await ufb([
    'pretrain',
    ...reference,
    ...shape,
    '--tokens',
    '640',
    '--corpus',
    at('text.txt'),
    '--out',
    at('said'),
    '--log',
    at('said.log'),
  ]);
  expect(said.stdout).toMatch(/held-out loss [\d.]+, leaf use \d\.\d of 3 bits, \d of 8 leaves, [\d.]+ % in the most crowded; /);
  const logged = readFileSync(at('said.log'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(logged.find(({ event }) => event === 'evaluation').layers).toEqual([expect.objectContaining({ leaves: 8 })]);
});
