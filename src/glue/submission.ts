/** Predictions as the GLUE server takes them. */

import { joinPath } from '#platform';
import { writeFileAtomic } from '../io/files.ts';
import type { GlueResults, GlueRun } from './results.ts';
import { type GlueTask, glueTasks } from './tasks.ts';

/**
 * Writes the predictions of each task, of the seed with the median score, in the form that gluebenchmark.com takes: those of
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
      const { test, predictions } = medianRun(runs, name);
      await (name in test ? write('test', name, test[name]) : write('dev', name, predictions[name]));
    }
    const { diagnostic } = task;
    const { test } = medianRun(runs, task.sets[0].name);
    if (diagnostic && diagnostic.name in test) await write('test', diagnostic.name, test[diagnostic.name]);
  }
}

function serverLabel({ classes }: GlueTask, value: number): string {
  return classes.length > 0 ? classes[value] : Math.min(5, Math.max(0, value)).toFixed(3);
}

/** Of an even number of runs, the lower of the two in the middle. */
function medianRun(runs: readonly GlueRun[], set: string): GlueRun {
  const sorted = [...runs].sort((a, b) => a.scores[set] - b.scores[set]);
  return sorted[Math.floor((sorted.length - 1) / 2)];
}
