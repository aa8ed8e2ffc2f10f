import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { GlueResults } from '../../src/glue/results.ts';
import { writePredictions } from '../../src/glue/submission.ts';
import { glueTask } from '../../src/glue/tasks.ts';
import { temporaryFolder } from '../temporary.ts';

/** Runs of one task by their scores; what each predicts is its seed. */
const taskOf = (name: string, labels: number[], scores: number[], prediction: (seed: number) => number[]) => ({
  training: 9,
  labels: { [name]: labels },
  runs: scores.map((score, seed) => ({
    seed,
    scores: { [name]: score },
    seconds: 1,
    tokensPerSecond: 1,
    predictions: { [name]: prediction(seed) },
    test: {},
  })),
});

test('the predictions are those of the median seed, the lower of two; numbers stay within 0 and 5', async () => {
  const folder = temporaryFolder();
  const tasks: GlueResults['tasks'] = {
    'STS-B': taskOf('STS-B', [1, 2, 3], [0.9, 0.5, 0.7], (seed) => [seed + 0.12345, -0.2, 5.5]),
    WNLI: taskOf('WNLI', [1, 0], [0.4, 0.8], (seed) => [seed, 1]),
    'SST-2': taskOf('SST-2', [1, 0], [0.4, 0.8, 0.4], (seed) => [seed === 1 ? 1 : 0, 1]),
  };
  await writePredictions(folder, {
    options: { model: '', data: '', tasks: [], seeds: 3, taskSeeds: {}, epochs: 5 },
    finished: true,
    tasks,
  });
  const written = (name: string) => readFileSync(join(folder, 'dev', `${name}.tsv`), 'utf8');
  expect(written('STS-B')).toBe('index\tprediction\n0\t2.123\n1\t0.000\n2\t5.000\n');
  expect(written('WNLI')).toBe('index\tprediction\n0\t0\n1\t1\n');
  expect(written('SST-2')).toBe('index\tprediction\n0\t0\n1\t1\n');
});

test('a test set that came after some seeds were trained: the median of those that have predicted it', async () => {
  const folder = temporaryFolder();
  const task = taskOf('RTE', [1, 0], [0.9, 0.5, 0.7], (seed) => [seed, 0]);
  Object.assign(task.runs[1].test, { RTE: [1, 1] });
  const options = { model: '', data: '', tasks: [], seeds: 3, taskSeeds: {}, epochs: 5 };
  await writePredictions(folder, { options, finished: true, tasks: { RTE: task } });
  const { classes } = glueTask('RTE');
  expect(readFileSync(join(folder, 'test', 'RTE.tsv'), 'utf8')).toBe(`index\tprediction\n0\t${classes[1]}\n1\t${classes[1]}\n`);
  expect(existsSync(join(folder, 'dev', 'RTE.tsv'))).toBe(false);
});
