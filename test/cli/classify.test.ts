import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { ReferenceDevice } from '../../src/backend/reference.ts';
import { loadSequenceClassifier, saveCheckpoint } from '../../src/models/checkpoint.ts';
import { Tokenizer } from '../../src/tokenizer/tokenizer.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyClassifier, writeTinyModel } from '../tiny_model.ts';
import { program, ufb } from './ufb.ts';

const folder = temporaryFolder();
const model = join(folder, 'classifier');
const common = ['classify', '--device', 'reference', '--model', model, '-'];
beforeAll(async () => {
  await writeTinyModel(join(folder, 'base'));
  await writeTinyClassifier(join(folder, 'base'), model);
});

test('a line that is written is answered while the next is not there yet', async () => {
  const child = spawn(process.execPath, [program, ...common]);
  const ended = new Promise((resolve) => child.on('close', resolve));
  const answer = () => new Promise<string>((resolve) => child.stdout.once('data', (text) => resolve(String(text))));
  for (const line of ['a dog', 'the cat\tthe house']) {
    const answered = answer();
    child.stdin.write(`${line}\n`);
    expect(await answered).toMatch(new RegExp(`^(cat|dog|bird) [\\d.]+\t${line}\n$`));
  }
  child.stdin.end();
  expect(await ended).toBe(0);
});

test('a line of more than two columns is reported by its number, and the others are answered', async () => {
  const { code, stdout, stderr } = await ufb(common, 'a dog\na\tb\tc\nthe cat\tthe house\n');
  expect(stdout.split('\n').map((line) => line.replace(/^\w+ [\d.]+\t/, ''))).toEqual(['a dog', 'the cat\tthe house', '']);
  expect(stderr).toBe('ufb: standard input, line 2: has 2 tabs, expected one at most, between the two of a pair\n2 of 3 texts answered\n');
  expect(code).toBe(1);
});

test('a label and its probability for each text and pair', async () => {
  const base = join(folder, 'base');
  const classifier = join(folder, 'fresh');
  const device = new ReferenceDevice();
  const made = await loadSequenceClassifier(base, device, { fresh: { labels: 2, seed: 1 } });
  await saveCheckpoint(classifier, made, { tokenizer: (await Tokenizer.load(join(base, 'tokenizer.json'))).json });
  const { code, stdout, stderr } = await ufb(['classify', '--model', classifier, 'a dog', '-'], 'the cat\tthe house\n\na river\n');
  expect(code, stderr).toBe(0);
  const number = '[01]\\.\\d{4}'.replaceAll('\\\\', '\\');
  expect(stdout).toMatch(
    new RegExp(`^LABEL_[01] ${number}\ta dog\nLABEL_[01] ${number}\tthe cat\tthe house\nLABEL_[01] ${number}\ta river\n$`),
  );
  const json = JSON.parse((await ufb(['classify', '--model', classifier, '--top-k', '2', '--json', 'a dog'])).stdout);
  expect(json.answers[0].classes).toHaveLength(2);
});
