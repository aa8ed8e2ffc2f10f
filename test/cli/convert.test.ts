import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { nativeMissing } from '../../src/backend/create.ts';
import { temporaryFolder } from '../temporary.ts';
import { generatedSentences, tinyBert, writeTinyModel } from '../tiny_model.ts';
import { writeCorpus } from '../training/corpora.ts';
import { ufb } from './ufb.ts';

const folder = temporaryFolder();
const [model, out] = [join(folder, 'model'), join(folder, 'out')];
const device = nativeMissing() ? ['--device', 'reference'] : [];
let corpus: string;
beforeAll(async () => {
  await writeTinyModel(model, tinyBert, 'encoder');
  const sentences = generatedSentences();
  corpus = writeCorpus(
    folder,
    'corpus.txt',
    Array.from({ length: 40 }, (_, i) => [sentences.slice(i * 5, i * 5 + 3).join(' '), sentences.slice(i * 5 + 3, i * 5 + 5).join(' ')]),
  );
});
const small = [
  '--depth',
  '2',
  '--fit-tokens',
  '1000',
  '--tokens',
  '2000',
  '--batch',
  '128',
  '--held-out-every',
  '5',
  '--held-out-texts',
  '12',
];
const convert = (...args: string[]) => ufb(['convert', '--model', model, '--corpus', corpus, ...small, ...device, ...args]);

test('ufb convert makes a model with trees, and `ufb eval agreement` sets it beside the one it was made from', async () => {
  const log = join(folder, 'log.jsonl');
  const { code, stdout, stderr } = await convert('--out', out, '--log', log);
  const said = stderr.trim().split('\n');
  // Three thousand tokens may leave it behind a constant.
  expect([code, said.filter((line) => !line.startsWith('the model ends with an R2 of -')).length]).toEqual([0, 2]);
  expect(stderr).toMatch(
    /^0\.0 M tokens fitted, 0\.0 M trained: R2 of hidden states [-\d.]+ [-\d.]+, of vectors [-\d.]+, cosine [\d.]+; leaves used \d \([\d.]+ bits\), \d/,
  );
  expect(stdout).toMatch(/^done: step \d+, .*R2 of hidden states/);
  const events = readFileSync(log, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(new Set(events.map(({ event, phase }) => phase ?? event))).toEqual(new Set(['start', 'fit', 'train', 'agreement']));
  const evaluate = (of: string, ...more: string[]) =>
    ufb(['eval', 'agreement', '--model', of, '--against', model, '--text', corpus, '--count', '60', ...device, ...more]);
  const itself = await evaluate(model);
  expect(itself.stdout).toMatch(
    /^recall@10 +1\.0000 of the nearest 10 among 60 paragraphs \(seed 0\)\nvectors +R2 1\.0000, cosine 1\.0000\nR2, hidden states 1\.0000 1\.0000\n$/,
  );
  const converted = JSON.parse((await evaluate(out, '--json')).stdout);
  expect(converted).toMatchObject({ texts: 60, states: [expect.any(Number), expect.any(Number)], layers: [{ leaves: 4 }, { leaves: 4 }] });
  expect(converted.recall).toBeGreaterThan(0);
  expect(converted.recall).toBeLessThan(1);
});

test('a text of fewer paragraphs than are drawn: all of them, and the number is said, unless it was asked for', async () => {
  const args = ['eval', 'agreement', '--model', out, '--against', model, '--text', corpus, ...device, '--json'];
  const all = await ufb(args);
  expect(all.stderr).toContain('corpus.txt: has 80 paragraphs, all of which are taken');
  expect(JSON.parse(all.stdout).texts).toBe(80);
  const asked = await ufb([...args, '--count', '90']);
  expect(asked).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('has 80 paragraphs, expected at least --count 90') });
});

test('models whose tokenizers differ are not set beside each other', async () => {
  const other = join(folder, 'other-tokens');
  cpSync(model, other, { recursive: true });
  const path = join(other, 'tokenizer.json');
  const json = JSON.parse(readFileSync(path, 'utf8'));
  const { vocab } = json.model;
  [vocab.cat, vocab.dog] = [vocab.dog, vocab.cat];
  writeFileSync(path, JSON.stringify(json));
  const { code, stderr } = await ufb(['eval', 'agreement', '--model', other, '--against', model, '--text', corpus, '--quiet', ...device]);
  expect([code, stderr]).toEqual([2, expect.stringMatching(/^ufb: the models' tokenizers do not cut '.+' alike/)]);
});

test('what cannot be is said in one line', async () => {
  const refused = async (...args: string[]) => {
    const { code, stderr } = await ufb(['convert', ...device, ...args]);
    expect([code, stderr.trim().split('\n').length]).toEqual([2, 1]);
    return stderr;
  };
  expect(await refused('--out', 'x')).toMatch(/--model is missing/);
  expect(await refused('--model', model, '--out', join(folder, 'other'))).toMatch(/--corpus FILE\.\.\. is missing/);
  expect(await refused('--model', model, '--corpus', corpus, '--out', out)).toMatch(/holds a run already; add --resume/);
  const other = join(folder, 'other-model');
  cpSync(model, other, { recursive: true });
  const weights = readFileSync(join(other, 'model.safetensors'));
  weights[weights.length - 3] ^= 1;
  writeFileSync(join(other, 'model.safetensors'), weights);
  expect(await refused('--model', other, '--resume', '--out', out)).toMatch(
    /other-model: is not what the run in \S+ was started with \(--model\): \d+ bytes as then, but others/,
  );
  expect(await refused('--leaf-width', '2', '--resume', '--out', out)).toMatch(/--leaf-width 2 differs from the run's 1; leave it out/);
  expect(await refused('--feedforward', 'none', '--resume', '--out', out)).toMatch(/--feedforward none differs from the run's fff/);
  expect(await refused('--intermediate', '9', '--resume', '--out', out)).toMatch(/--intermediate: the run was started without it/);
  expect(await refused('--resume', '--no-train-embeddings', '--out', out)).toMatch(
    /--no-train-embeddings: the run was started without it; leave it out/,
  );
  expect(await refused('--resume', '--out', out, '--log', join(out, 'model.safetensors'))).toMatch(/which is kept for the run, expected/);
  expect(await refused('--model', model, '--corpus', corpus, '--out', join(folder, 'other'), '--balance', '-1')).toMatch(
    /expected a number from 0/,
  );
});

test('--resume of a finished run changes nothing, whether or not its options are given again', async () => {
  const before = readFileSync(join(out, 'model.safetensors'));
  const { code, stdout } = await ufb(['convert', '--resume', '--out', out, ...device]);
  expect([code, stdout.slice(0, 5)]).toEqual([0, 'done:']);
  const again = await convert('--out', out, '--resume', '--trees', '1', '--leaf-width', '1');
  expect([again.code, again.stdout.slice(0, 5)], again.stderr).toEqual([0, 'done:']);
  const moved = join(folder, 'moved');
  cpSync(model, moved, { recursive: true });
  expect(await convert('--out', out, '--resume', '--model', moved)).toMatchObject({ code: 0 });
  expect(readFileSync(join(out, 'model.safetensors')).equals(before)).toBe(true);
});
