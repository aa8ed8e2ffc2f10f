/** `ufb finetune` as users run it: the built program in a process of its own. */
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { temporaryFolder } from '../temporary.ts';
import { generatedSentences, writeTinyModel } from '../tiny_model.ts';
import { type Ended, program, ufb } from './ufb.ts';

const folder = temporaryFolder();
const model = join(folder, 'model');
const animals = join(folder, 'animals.csv');
const pairs = join(folder, 'pairs.jsonl');
const reference = ['--device', 'reference'];

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
    /^always answering 'animal', the most frequent class, has accuracy 0\.5000\nepoch 1: loss [\d.]+, validation loss [\d.]+, accuracy [\d.]+, f1 [\d.]+, matthews/,
  );
  expect(stderr.trim().split('\n')).toHaveLength(4);
  expect(stdout).toMatch(
    /^done: 194 examples of 2 classes in \d+ s, scored on 22\nbest, in .*animals: epoch \d: .*accuracy (0\.9\d+|1\.0000)/,
  );
  expect(code).toBe(0);
  // Class by class, and which is taken for which.
  expect(stdout).toMatch(
    /\n\nclass +precision +recall +F1 +examples\nanimal +[\d.]+ +[\d.]+ +[\d.]+ +11\nperson +[\d.]+ +[\d.]+ +[\d.]+ +11\n/,
  );
  expect(stdout).toMatch(
    /\n\naccuracy [\d.]+, macro-F1 [\d.]+ over 22 examples; always answering 'animal', the most frequent class, has accuracy 0\.5000\n/,
  );
  expect(stdout).toMatch(/\n\nclass \\ taken for +animal +person\nanimal +\d+ +\d+\nperson +\d+ +\d+\n$/);
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

const evaluate = (data: string, ...args: string[]) =>
  ufb(['eval', 'classification', '--model', join(folder, 'animals'), '--data', data, ...reference, ...args]);

test('ufb eval classification: the same figures, of any labeled file', async () => {
  const { code, stdout, stderr } = await evaluate(animals);
  expect([code, stderr]).toEqual([0, '']);
  expect(stdout).toMatch(/^class +precision +recall +F1 +examples\nanimal .* 108\nperson .* 108\n\naccuracy [01]\.\d+, macro-F1/);
  const report = JSON.parse((await evaluate(animals, '--json')).stdout);
  expect(report).toMatchObject({
    examples: 216,
    majority: { label: 'animal', share: 0.5 },
    classes: [{ label: 'animal' }, { label: 'person' }],
  });
  const right = report.confusion.filter((cell: { label: string; predicted: string }) => cell.label === cell.predicted);
  expect(right.reduce((sum: number, { examples }: { examples: number }) => sum + examples, 0) / 216).toBe(report.accuracy);

  // Labels may be the classes' numbers; a single class is told as what it is.
  const numbered = join(folder, 'numbered.tsv');
  writeFileSync(numbered, `text\tlabel\na dog sees a river .\t0\n`);
  const byNumber = await evaluate(numbered);
  expect(byNumber.stderr).toMatch(/numbered\.tsv: its labels are taken for the model's classes by number: 0 animal, 1 person\n$/);
  expect(byNumber.stdout).toContain('accuracy 1.0000');
  expect(byNumber.stdout).toContain('it is no better than that');
});

test('ufb eval classification refuses what the model does not answer, by file and line', async () => {
  const other = join(folder, 'other.tsv');
  writeFileSync(other, 'text\tlabel\na dog .\tanimal\na stone .\tmineral\n');
  const refusals: [Promise<Ended>, string][] = [
    [evaluate(other), 'other.tsv, line 3: the model has no class "mineral", only "animal", "person"'],
    [evaluate(pairs), 'pairs.jsonl: has scores, but '],
    [evaluate(join(folder, 'nowhere.tsv')), 'nowhere.tsv: cannot read: no such file'],
  ];
  for (const [refused, message] of refusals) {
    const { code, stderr } = await refused;
    expect(stderr).toContain(message);
    expect([code, stderr.trim().split('\n').length]).toEqual([2, 1]);
  }
});

test('pairs with scores: a regression', async () => {
  const { code, stdout } = await ufb(finetune('pairs', '--train', pairs, '--validation', pairs, '--epochs', '1', '--json', '--quiet'));
  expect(code).toBe(0);
  const result = JSON.parse(stdout);
  expect(result).toMatchObject({ finished: true, best: 1, labels: [], training: 60, validation: 60, step: 4 });
  expect(Object.keys(result.epochs[0].scores)).toEqual(['spearman', 'pearson']);
  const evaluated = await ufb(['eval', 'classification', '--model', join(folder, 'pairs'), '--data', pairs, ...reference, '--json']);
  const { spearman, pearson, examples } = JSON.parse(evaluated.stdout);
  expect(examples).toBe(60);
  expect(spearman).toBeCloseTo(result.epochs[0].scores.spearman, 2);
  expect(pearson).toBeCloseTo(result.epochs[0].scores.pearson, 2);
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
