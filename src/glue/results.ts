/** What a run over GLUE has found: kept in its folder's results.json, from which it is resumed and others are compared with it. */

import * as v from 'valibot';
import { joinPath } from '#platform';
import { productPrecisions } from '../backend/prepared_weight.ts';
import { InputError } from '../errors.ts';
import { kindOf, readJson, writeFileAtomic } from '../io/files.ts';
import { extentOfResults } from '../io/json.ts';
import { countSchema } from '../io/schemas.ts';
import { type GlueTask, glueTask, glueTasks } from './tasks.ts';

/** By the names of a task's sets. */
const bySet = <Value extends v.GenericSchema>(value: Value) => v.record(v.string(), value);
const numbers = v.array(v.number());

const seedResultSchema = v.object({
  seed: countSchema,
  scores: bySet(v.number()),
  /** Of the training. */
  seconds: v.number(),
  tokensPerSecond: v.number(),
  /** Of the dev sets: classes by number (see `classes` of {@link GlueTask}), or the numbers of a regression. */
  predictions: bySet(numbers),
  /** Of the test sets that there were. */
  test: bySet(numbers),
});

export const glueOptionsSchema = v.object({
  model: v.string(),
  data: v.string(),
  tasks: v.array(v.picklist(glueTasks.map(({ name }) => name))),
  seeds: countSchema,
  taskSeeds: v.record(v.string(), countSchema),
  epochs: countSchema,
  /** Of products of matrices in training; f32 if absent. */
  precision: v.optional(v.picklist(productPrecisions)),
});

const schema = v.object({
  options: glueOptionsSchema,
  finished: v.boolean(),
  tasks: v.record(
    v.picklist(glueTasks.map(({ name }) => name)),
    v.object({
      /** Examples trained on. */
      training: countSchema,
      /** Tells the training set from another; absent from results that are older than it. */
      fingerprint: v.optional(v.number()),
      /** Of the dev sets, as numbers. */
      labels: bySet(numbers),
      /** A seed each. */
      runs: v.array(seedResultSchema),
    }),
  ),
});

/** What a run is, as its folder keeps it. */
export type GlueOptions = v.InferOutput<typeof schema>['options'];
export type GlueResults = v.InferOutput<typeof schema>;
export type GlueTaskResult = GlueResults['tasks'][string];
/** One task trained with one seed. */
export type SeedResult = v.InferOutput<typeof seedResultSchema>;

/** Results, and the folder that they are in. */
export interface StoredResults {
  folder: string;
  results: GlueResults;
}

export const resultsFile = (folder: string) => joinPath(folder, 'results.json');

/** Whether a folder has results, as it has from the first task and seed on. */
export async function hasGlueResults(folder: string): Promise<boolean> {
  return (await kindOf(resultsFile(folder))) === 'file';
}

/** @throws InputError naming the file if it is missing, damaged, its parts do not fit each other, or a class is none of its task's */
export async function readGlueResults(folder: string): Promise<GlueResults> {
  const path = resultsFile(folder);
  const { output, issues } = v.safeParse(schema, await readJson(path, extentOfResults));
  if (issues) {
    const [{ message }] = issues;
    throw new InputError(`${path}: '${v.getDotPath(issues[0])}': ${message}; expected the results of 'ufb glue --out'`);
  }
  const results = output as GlueResults;
  for (const [name, { labels, runs }] of Object.entries(results.tasks)) {
    const { sets, classes } = glueTask(name);
    for (const { name: set } of sets) {
      const fits = runs.every(({ predictions, scores }) => predictions[set]?.length === labels[set]?.length && set in scores);
      if (!labels[set]?.length || !fits)
        throw new InputError(`${path}: 'tasks.${name}': labels, predictions and scores of ${set} do not fit each other`);
    }
    if (classes.length === 0) continue;
    for (const lists of [labels, ...runs.flatMap(({ predictions, test }) => [predictions, test])]) {
      for (const [set, values] of Object.entries(lists)) {
        const other = values.find((value) => !(value in classes));
        if (other !== undefined)
          throw new InputError(
            `${path}: 'tasks.${name}': ${set} has a class ${other}, expected whole numbers from 0 to ${classes.length - 1}, as 'ufb glue --out' writes them`,
          );
      }
    }
  }
  return results;
}

/** Written aside and renamed; in one order, whether the run was stopped and resumed or not. */
export function writeGlueResults(folder: string, results: GlueResults): Promise<void> {
  const { options, finished, tasks } = v.parse(schema, results);
  const inOrder = glueTasks.flatMap(({ name }) => (tasks[name] ? [[name, tasks[name]]] : []));
  return writeFileAtomic(resultsFile(folder), `${JSON.stringify({ options, finished, tasks: Object.fromEntries(inOrder) })}\n`);
}

/** @throws InputError if stored results are of another dev set than `labels`, so that nothing can be compared */
export function checkDevSets(task: GlueTask, labels: GlueTaskResult['labels'], { folder, results }: StoredResults): void {
  const known = results.tasks[task.name]?.labels;
  const differs = task.sets.find(({ name }) => known && `${known[name]}` !== `${labels[name]}`);
  if (differs)
    throw new InputError(
      `${differs.dev} of ${task.name} differs from that of the results in ${folder}: name the data that they were made with`,
    );
}
