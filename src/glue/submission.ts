/** Predictions as the GLUE server takes them. */

import { joinPath } from '#platform';
import { writeFileAtomic } from '../io/files.ts';
import type { GlueResults, GlueRun } from './results.ts';
import { type GlueTask, glueTasks } from './tasks.ts';

/**
 * Writes the predictions of each task, of the seed with the median score, in the form that gluebenchmark.com takes: those of
 * the test set in test/NAME.tsv, where there is none those of the dev set in dev/NAME.tsv, which are not for the server.
 */
export async function writePredictions(folder: string, results: GlueResults): Promise<void> {
  for (const task of glueTasks) {
    const runs = results.tasks[task.name]?.runs ?? [];
    for (const { name } of runs.length > 0 ? task.sets : []) {
      const { test, predictions } = medianRun(runs, name);
      const part = name in test ? 'test' : 'dev';
      const rows = (test[name] ?? predictions[name]).map((value, index) => `${index}\t${serverLabel(task, value)}\n`);
      await writeFileAtomic(joinPath(folder, part, `${name}.tsv`), `index\tprediction\n${rows.join('')}`);
    }
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
