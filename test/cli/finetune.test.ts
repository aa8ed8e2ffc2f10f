/** `ufb finetune` as users run it: the built program in a process of its own. */
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { temporaryFolder } from '../temporary.ts';
import { generatedSentences, writeTinyModel } from '../tiny_model.ts';
import { program, ufb } from './ufb.ts';

const folder = temporaryFolder();
const model = join(folder, 'model');
const animals = join(folder, 'animals.csv');
const pairs = join(folder, 'pairs.jsonl');
const reference = ['--backend', 'reference'];

beforeAll(async () => {
  await writeTinyModel(model);
  const sentences = generatedSentences();
  const rows = sentences.map((text) => `${JSON.stringify(text)},${/cat|dog|bird/.test(text) ? 'animal' : 'person'}`);
  writeFileSync(animals, `text,label\n${rows.join('\n')}\n`);
  const scored = sentences.slice(0, 60).map((text, i) => ({ text, pair: sentences[i + 1], score: i % 5 }));
  writeFileSync(pairs, scored.map((example) => JSON.stringify(example)).join('\n'));
});

const finetune = (out: string, ...args: string[]) => ['finetune', '--model', model, '--out', join(folder, out), ...reference, ...args];

test('trains a classifier that `ufb classify` runs', async () => {
  const log = join(folder, 'log.jsonl');
  const args = ['--train', animals, '--epochs', '3', '--learning-rate', '0.01', '--log', log];
  const { code, stdout, stderr } = await ufb(finetune('animals', ...args));
  expect(stderr).toMatch(
    /^always answering 'person', the most frequent class, has accuracy 0\.5000\nepoch 1: loss [\d.]+, validation loss [\d.]+, accuracy [\d.]+, f1 [\d.]+, matthews/,
  );
  expect(stderr.trim().split('\n')).toHaveLength(4);
  expect(stdout).toMatch(
    /^done: 194 examples of 2 classes in \d+ s, scored on 22\nbest, in .*animals: epoch \d: .*accuracy (0\.9\d+|1\.0000)/,
  );
  expect(code).toBe(0);
  const events = readFileSync(log, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line).event);
  expect(events.filter((event) => event === 'epoch')).toHaveLength(3);
  expect(events.filter((event) => event === 'step')).toHaveLength(3 * 13);

  const answer = await ufb([
    'classify',
    '--model',
    join(folder, 'animals'),
    'a dog sees a river .',
    'my sister draws the letter .',
    ...reference,
  ]);
  expect(answer.stdout).toMatch(/^animal 0\.\d+\ta dog sees a river \.\nperson 0\.\d+\tmy sister draws the letter \.\n$/);
});

test('pairs with scores: a regression', async () => {
  const { code, stdout } = await ufb(finetune('pairs', '--train', pairs, '--validation', pairs, '--epochs', '1', '--json', '--quiet'));
  expect(code).toBe(0);
  const result = JSON.parse(stdout);
  expect(result).toMatchObject({ finished: true, best: 1, labels: [], training: 60, validation: 60, step: 4 });
  expect(Object.keys(result.epochs[0].scores)).toEqual(['spearman', 'pearson']);
  const answer = await ufb(['classify', '--model', join(folder, 'pairs'), 'a dog sees a river .\tthe cat likes a river .', ...reference]);
  expect(answer.code).toBe(0);
});

test('stopped by Ctrl-C and resumed: the same bits as a run that was never stopped', async () => {
  const args = ['--train', animals, '--epochs', '8', '--quiet'];
  await ufb(finetune('whole', ...args));
  const log = join(folder, 'stopped.jsonl');
  const child = spawn(process.execPath, [program, ...finetune('stopped', ...args, '--log', log)]);
  const timer = setInterval(() => {
    try {
      if (readFileSync(log, 'utf8').split('\n').length <= 16) return;
      clearInterval(timer);
      child.kill('SIGINT');
    } catch {
      // No log yet.
    }
  }, 5);
  expect(await new Promise((resolve) => child.on('close', resolve))).toBe(1);
  const resumed = await ufb(['finetune', '--resume', '--out', join(folder, 'stopped'), ...reference, '--json', '--quiet']);
  expect(resumed.code).toBe(0);
  expect(JSON.parse(resumed.stdout)).toMatchObject({ finished: true, step: 8 * 13 });
  for (const file of ['model.safetensors', 'config.json']) {
    expect(readFileSync(join(folder, 'stopped', file)).equals(readFileSync(join(folder, 'whole', file)))).toBe(true);
  }
  const changed = await ufb(['finetune', '--resume', '--out', join(folder, 'stopped'), '--epochs', '9', ...reference]);
  expect(changed).toMatchObject({ code: 2, stderr: expect.stringContaining("--epochs 9 differs from the run's 8") });
});

test.each([
  [[], '--train FILE is missing'],
  [['--train', 'nowhere.tsv'], 'nowhere.tsv: cannot read: no such file'],
  [['--train', animals, '--metric', 'spearman'], '--metric spearman: expected accuracy or f1 or matthews or macroF1 for these labels'],
  [['--train', animals, '--validation', pairs], 'pairs.jsonl: holds scores, expected classes'],
  [['--train', animals, '--epochs', '0'], "'0' is invalid"],
])('finetune %j is refused and leaves nothing behind', async (args, message) => {
  const { code, stderr } = await ufb(finetune('refused', ...args));
  expect(stderr).toContain(message);
  expect(stderr.trim().split('\n')).toHaveLength(1);
  expect(code).toBe(2);
  expect(() => readFileSync(join(folder, 'refused', 'run', 'options.json'))).toThrow();
});
