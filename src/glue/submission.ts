/** Predictions as the GLUE server takes them. */

import { joinPath } from '#platform';
import { writeFileAtomic } from '../io/files.ts';
import type { GlueResults, SeedResult } from './results.ts';
import { type GlueTask, glueTasks } from './tasks.ts';

/**
 * Writes the predictions of each task, of the seed with the median score (of those that have predicted the set: a test set may have come
 * to the data after some were trained), in the form that gluebenchmark.com takes: those of
 * the test set in test/NAME.tsv, where there is none those of the dev set in dev/NAME.tsv, which are not for the server; those of the
 * diagnostic set, if it was there, of the seed that is the median of the task's first set.
 */
export async function writePredictions(folder: string, results: GlueResults): Promise<void> {
  for (const task of glueTasks) {
    const runs = results.tasks[task.name]?.runs ?? [];
    if (runs.length === 0) continue;
    const write = (part: string, name: string, values: readonly number[]) => {
      const rows = values.map((value, index) => `${index}\t${serverLabel(task, value)}\n`);
      return writeFileAtomic(joinPath(folder, part, `${name}.tsv`), `index\tprediction\n${rows.join('')}`);
    };
    for (const { name } of task.sets) {
      const tested = runs.filter(({ test }) => name in test);
      await (tested.length > 0
        ? write('test', name, medianSeed(tested, name).test[name])
        : write('dev', name, medianSeed(runs, name).predictions[name]));
    }
    const { diagnostic } = task;
    const diagnosed = diagnostic ? runs.filter(({ test }) => diagnostic.name in test) : [];
    if (diagnostic && diagnosed.length > 0)
      await write('test', diagnostic.name, medianSeed(diagnosed, task.sets[0].name).test[diagnostic.name]);
  }
}

function serverLabel({ classes }: GlueTask, value: number): string {
  return classes.length > 0 ? classes[value] : Math.min(5, Math.max(0, value)).toFixed(3);
}

/** Of an even number of runs, the lower of the two in the middle. */
function medianSeed(runs: readonly SeedResult[], set: string): SeedResult {
  const sorted = [...runs].sort((a, b) => a.scores[set] - b.scores[set]);
  return sorted[Math.floor((sorted.length - 1) / 2)];
}
