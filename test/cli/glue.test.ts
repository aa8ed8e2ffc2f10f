/** `ufb glue` as users run it: the built program in a process of its own. */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { writeTinyGlue } from '../glue/tiny_glue.ts';
import { temporaryFolder } from '../temporary.ts';
import { writeTinyModel } from '../tiny_model.ts';
import { program, ufb } from './ufb.ts';

const folder = temporaryFolder();
const [model, data] = [join(folder, 'model'), join(folder, 'data')];
const outOf = (name: string) => join(folder, name);
const reference = ['--device', 'reference'];
const glue = (...args: string[]) => ['glue', '--model', model, '--data', data, '--epochs', '1', ...reference, ...args];
beforeAll(async () => {
  await writeTinyModel(model);
  writeTinyGlue(data, ['RTE', 'CoLA', 'WNLI']);
  writeTinyGlue(data, ['MNLI'], { test: true });
});

test('a table of the tasks that are there, a file of results and predictions; then nothing is left to do', async () => {
  const out = outOf('whole');
  const log = join(folder, 'log.jsonl');
  const { code, stdout, stderr } = await ufb(glue('--seeds', '2,MNLI=1', '--out', out, '--log', log));
  expect(code, stderr).toBe(0);
  const score = String.raw`-?\d+\.\d`;
  const row = (name: string, metric: string, seeds: number) =>
    `${name} +${metric} +${score} +${score} +${score} - ${score} +${seeds} +\\d+\n`;
  expect(stdout).toMatch(
    new RegExp(
      `^task +metric +median +mean +over seeds +seeds +tokens/s\n${row('CoLA', 'Matthews', 2)}${row('RTE', 'accuracy', 2)}` +
        `${row('MNLI-m', 'accuracy', 1)}${row('MNLI-mm', 'accuracy', 1)}mean +${score} +${score}\nwithout CoLA +${score} +${score}\n` +
        "scores of dev sets x 100, median and mean over seeds; the last rows' means are over CoLA, RTE, MNLI-m, MNLI-mm\n$",
    ),
  );
  const runs = stderr.trim().split('\n');
  expect(runs[0]).toBe(`${data} has no STS-B, MRPC, SST-2, QNLI, QQP: the mean is without`);
  expect(runs.slice(1, 6).map((line) => line.replaceAll(/-?\d+\.\d/g, 'x').replace(/\d+ s$/, 'n s'))).toEqual([
    'seed 0: CoLA Matthews x in n s',
    'seed 1: CoLA Matthews x in n s',
    'seed 0: RTE accuracy x in n s',
    'seed 1: RTE accuracy x in n s',
    'seed 0: MNLI-m accuracy x, MNLI-mm accuracy x in n s',
  ]);
  expect(runs[6]).toBe(`no test set of CoLA, RTE: ${out}/dev has predictions of the dev set, which are not for the GLUE server`);
  const events = readFileSync(log, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(events.shift()).toMatchObject({ event: 'start', id: expect.any(String), step: 0 });
  expect(events.map(({ event }) => event)).toEqual(Array.from({ length: 5 }, () => ['step', 'step', 'run']).flat());
  expect(events[2]).toMatchObject({ task: 'CoLA', seed: 0, scores: { CoLA: expect.any(Number) } });
  expect([readdirSync(join(out, 'dev')), readdirSync(join(out, 'test'))]).toEqual([
    ['CoLA.tsv', 'RTE.tsv'],
    ['MNLI-m.tsv', 'MNLI-mm.tsv'],
  ]);

  const again = await ufb(['glue', '--resume', '--out', out, ...reference, '--json', '--quiet', '--against', out]);
  expect([again.code, again.stderr]).toEqual([0, '']);
  const result = JSON.parse(again.stdout);
  expect(result).toMatchObject({ finished: true, options: { tasks: ['CoLA', 'RTE', 'MNLI'], seeds: 2, taskSeeds: { MNLI: 1 } }, out });
  const [cola, ...others] = result.scores.map(({ score }: { score: number }) => score);
  expect(result.meanWithoutCola).toBeCloseTo(others.reduce((sum: number, score: number) => sum + score, 0) / 3, 12);
  expect(result.mean).toBeCloseTo((3 * result.meanWithoutCola + cola) / 4, 12);
  expect(result.kept.withoutCola).toEqual({ sets: ['RTE', 'MNLI-m', 'MNLI-mm'], ratio: 1, range: [1, 1], interval: [1, 1] });
});

test('more seeds of one task: the others keep theirs', async () => {
  const out = outOf('more-seeds');
  await ufb(glue('--tasks', 'RTE,CoLA', '--seeds', '1', '--out', out, '--quiet'));
  const more = (...args: string[]) => ufb(['glue', '--resume', '--out', out, ...reference, '--json', '--quiet', ...args]);
  const { stdout, stderr } = await more('--seeds', 'RTE=2');
  const { scores } = JSON.parse(stdout);
  expect(
    scores.map(({ name, seeds }: { name: string; seeds: number }) => [name, seeds]),
    stderr,
  ).toEqual([
    ['CoLA', 1],
    ['RTE', 2],
  ]);
  expect(await more('--seeds', 'QNLI=2')).toMatchObject({ code: 2, stderr: 'ufb: --seeds QNLI=2: QNLI is not trained, only RTE, CoLA\n' });
});

test('a log in a file that is read is refused', async () => {
  const path = join(data, 'RTE', 'train.tsv');
  const before = readFileSync(path, 'utf8');
  const { code, stderr } = await ufb(glue('--tasks', 'RTE', '--seeds', '1', '--log', path));
  expect([code, stderr]).toEqual([2, expect.stringContaining('--log')]);
  expect(readFileSync(path, 'utf8')).toBe(before);
});

test('WNLI is run if it is named, and counts in no mean', async () => {
  const { code, stdout } = await ufb(glue('--tasks', 'wnli', '--seeds', 'wnli=1', '--quiet'));
  expect(code).toBe(0);
  expect(stdout).toMatch(
    /^task .*\nWNLI +accuracy .*\nscores of dev sets x 100, median and mean over seeds; the last rows' means are over no tasks\n$/,
  );
});

test('--against: what is kept of another model, and what differs', async () => {
  const [one, two] = [outOf('one'), outOf('two')];
  await ufb(glue('--tasks', 'RTE', '--seeds', '1', '--out', one));
  await ufb(glue('--tasks', 'RTE,CoLA', '--seeds', '1', '--epochs', '2', '--out', two));
  const { code, stdout, stderr } = await ufb(['glue', '--resume', '--out', two, '--against', one, ...reference]);
  expect(code, stderr).toBe(0);
  const scoreOf = (out: string) => JSON.parse(readFileSync(join(out, 'results.json'), 'utf8')).tasks.RTE.runs[0].scores.RTE;
  const ratio = (scoreOf(two) / scoreOf(one)).toFixed(3);
  expect(stdout).toContain(`\nkept of ${one} `);
  expect(stdout).toMatch(new RegExp(`\nRTE +${ratio} +${ratio} - ${ratio} +\\d\\.\\d{3} - \\d\\.\\d{3}\nwithout CoLA +${ratio} `));
  expect(stderr).toContain(`${one}: trained for 1 epochs, this model for 2\n`);
  const nothing = await ufb(glue('--tasks', 'WNLI', '--against', one));
  expect(nothing).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining(`${one}: of the tasks that count in the mean`) });
});

test("--without: what is kept of the feedforward's contribution, and what differs", async () => {
  const [own, dense, bare] = [outOf('own'), outOf('dense'), outOf('bare')];
  for (const [out, epochs] of [
    [own, '1'],
    [dense, '1'],
    [bare, '2'],
  ])
    await ufb(glue('--tasks', 'RTE', '--seeds', '1', '--epochs', epochs, '--out', out));
  // Scores that are known: 9, 12 and 6 of 12 are right.
  for (const [out, right] of [
    [own, 9],
    [dense, 12],
    [bare, 6],
  ] as const) {
    const path = join(out, 'results.json');
    const results = JSON.parse(readFileSync(path, 'utf8'));
    const { labels, runs } = results.tasks.RTE;
    runs[0].predictions.RTE = labels.RTE.map((label: number, index: number) => (index < right ? label : 1 - label));
    runs[0].scores.RTE = right / 12;
    writeFileSync(path, JSON.stringify(results));
  }
  const args = ['glue', '--resume', '--out', own, '--against', dense, '--without', bare, ...reference];
  const { code, stdout, stderr } = await ufb(args);
  expect(code, stderr).toBe(0);
  expect(stdout).toMatch(
    /\nthe feedforward's contribution +model +dense +without +kept +over seeds +95 % of resamples\nRTE +75\.0 +100\.0 +50\.0 +0\.50 +0\.50 - 0\.50 +0\.\d\d - [01]\.\d\d\n$/,
  );
  expect(stderr).toContain(`${bare}: trained for 2 epochs, this model for 1\n`);
  expect(stderr).not.toContain(`${dense}: trained`);
  const { contribution } = JSON.parse((await ufb([...args, '--json'])).stdout);
  expect(contribution).toMatchObject([{ name: 'RTE', kept: 0.5, range: [0.5, 0.5], interval: [expect.any(Number), expect.any(Number)] }]);

  const path = join(bare, 'results.json');
  const results = JSON.parse(readFileSync(path, 'utf8'));
  results.tasks.RTE.labels.RTE[0] = 1 - results.tasks.RTE.labels.RTE[0];
  writeFileSync(path, JSON.stringify(results));
  expect(await ufb(args)).toMatchObject({ code: 2, stderr: expect.stringContaining(`differs from that of the results in ${bare}`) });
});

test('stopped by Ctrl-C and resumed: the same results as a run that was never stopped', async () => {
  const args = ['--tasks', 'RTE,CoLA', '--epochs', '4', '--seeds', '2', '--quiet'];
  await ufb(glue(...args, '--out', outOf('unstopped')));
  const log = join(folder, 'stopped.jsonl');
  const child = spawn(process.execPath, [program, ...glue(...args, '--out', outOf('stopped'), '--log', log)]);
  const ended = new Promise((resolve) => child.on('close', resolve));
  while (child.exitCode === null && !(existsSync(log) && readFileSync(log, 'utf8').split('\n').length > 12))
    await new Promise((resolve) => setTimeout(resolve, 5));
  child.kill('SIGINT');
  expect(await ended).toBe(1);
  const resumed = await ufb(['glue', '--resume', '--out', outOf('stopped'), ...reference, '--json', '--quiet']);
  expect(resumed.code, resumed.stderr).toBe(0);
  const found = (out: string) => {
    const { tasks, finished } = JSON.parse(readFileSync(join(out, 'results.json'), 'utf8'));
    type Run = { seed: number; scores: object; predictions: object };
    const runs = (name: string) => tasks[name].runs.map(({ seed, scores, predictions }: Run) => ({ seed, scores, predictions }));
    return { finished, RTE: runs('RTE'), CoLA: runs('CoLA') };
  };
  expect(found(outOf('stopped'))).toEqual(found(outOf('unstopped')));
  const withoutTimes = (out: string) =>
    readFileSync(join(out, 'results.json'), 'utf8').replace(/("(seconds|tokensPerSecond)":)[^,]+/g, '$1');
  expect(withoutTimes(outOf('stopped'))).toBe(withoutTimes(outOf('unstopped')));
  expect(found(outOf('stopped'))).toMatchObject({ finished: true, RTE: [{ seed: 0 }, { seed: 1 }] });
  const changed = await ufb(['glue', '--resume', '--out', outOf('stopped'), '--epochs', '9', ...reference]);
  expect(changed).toMatchObject({ code: 2, stderr: expect.stringContaining("--epochs 9 differs from the run's 4") });
});

test.each([
  [['--tasks', 'RTE,SNLI'], '--tasks RTE,SNLI: expected some of WNLI, CoLA, '],
  [['--tasks', 'QNLI'], 'train.tsv: cannot read: no such file'],
  [['--seeds', 'RTE=none'], "'RTE=none' is invalid"],
  [['--seeds', 'SNLI=2'], "'SNLI=2': expected COUNT or TASK=COUNT"],
  [['--seeds', '2,'], "'2,' is invalid"],
  [['--data', folder], 'has none of GLUE'],
  [['--resume'], '--resume needs --out FOLDER'],
  [['--against', folder], 'results.json: cannot read: no such file'],
  [['--without', folder], '--without needs --against'],
])('glue %j is refused', async (args, message) => {
  const { code, stderr } = await ufb(glue(...args));
  expect(stderr).toContain(message);
  expect(stderr.trim().split('\n')).toHaveLength(1);
  expect(code).toBe(2);
});

test('a folder that holds something else is left alone', async () => {
  const out = outOf('mine');
  writeTinyGlue(out, ['RTE']);
  writeFileSync(join(out, 'notes'), '');
  const { code, stderr } = await ufb(glue('--out', out));
  expect([code, stderr.includes('is not empty and holds no run (but RTE); name a new folder')]).toEqual([2, true]);
});
