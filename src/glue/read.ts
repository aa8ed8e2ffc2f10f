/** GLUE's files, in the layout in which gluebenchmark.com has them: tabs between columns, quotes are plain characters. */

import { joinPath } from '#platform';
import { InputError } from '../errors.ts';
import { kindOf, readLines } from '../io/files.ts';
import { charactersOfRow, listed, maximumCharacters, tooMuch } from '../training/labeled_files.ts';
import { type GlueTask, glueTasks } from './tasks.ts';

export interface GlueExamples {
  texts: { text: string; pair?: string }[];
  /** A class's number or, for a regression, the number itself; none of a test set. */
  labels: number[];
  /** What was left out, a line each. */
  notices: string[];
}

export interface GlueData {
  train: GlueExamples;
  /** By the names of the task's sets; `test` where its file is there. */
  sets: Record<string, { dev: GlueExamples; test?: GlueExamples }>;
  /** Where its file is there. */
  diagnostic?: GlueExamples;
}

/** The tasks whose folders are in `data`. */
export async function findGlueTasks(data: string): Promise<GlueTask[]> {
  const found: GlueTask[] = [];
  for (const task of glueTasks) if ((await kindOf(joinPath(data, task.name, 'train.tsv'))) === 'file') found.push(task);
  return found;
}

const fileOf = (task: GlueTask, data: string, name: string) => joinPath(data, task.name, name);

/** The files of a task's sets, there or not. */
export function glueFiles(task: GlueTask, data: string): string[] {
  const names = ['train.tsv', ...task.sets.flatMap(({ dev, test }) => [dev, test])];
  return [...names.map((name) => fileOf(task, data, name)), ...(task.diagnostic?.files ?? []).map((name) => joinPath(data, name))];
}

/** All sets of a task. @throws InputError as {@link readGlueFile} does */
export async function readGlueTask(task: GlueTask, data: string): Promise<GlueData> {
  const file = (name: string) => fileOf(task, data, name);
  const train = await readGlueFile(task, file('train.tsv'), 'train');
  const sets: GlueData['sets'] = {};
  for (const { name, dev, test } of task.sets) {
    const hasTest = (await kindOf(file(test))) === 'file';
    sets[name] = {
      dev: await readGlueFile(task, file(dev), 'dev'),
      test: hasTest ? await readGlueFile(task, file(test), 'test') : undefined,
    };
  }
  for (const name of task.diagnostic?.files ?? []) {
    const path = joinPath(data, name);
    if ((await kindOf(path)) === 'file') return { train, sets, diagnostic: await readGlueFile(task, path, 'test') };
  }
  return { train, sets };
}

/**
 * One file. Rows that the task's description leaves out (no agreed label; of QQP, columns or the label missing) are counted in
 * `notices`, except in a test set, whose every row needs a prediction.
 * @throws InputError naming file and line if the file is missing, has no examples, or a line is malformed
 */
export async function readGlueFile(task: GlueTask, path: string, part: 'train' | 'dev' | 'test'): Promise<GlueExamples> {
  const wanted = part === 'test' ? task.texts : [...task.texts, task.label];
  let columns = part === 'test' ? undefined : task.columns;
  const [texts, labels]: [GlueExamples['texts'], number[]] = [[], []];
  let [line, characters, broken, undecided] = [0, 0, 0, 0];
  for await (const row of readLines(path, 'refuse')) {
    line++;
    const cells = row.split('\t');
    if (!columns) {
      columns = cells;
      const missing = wanted.filter((name) => !cells.includes(name));
      if (missing.length > 0)
        throw new InputError(
          `${path}, line 1: found ${listed(cells)}, expected the columns of a ${part} set of ${task.name}, ${missing.join(', ')} too`,
        );
      continue;
    }
    const { length } = columns;
    const cell = (name: string) => cells[(columns as readonly string[]).indexOf(name)];
    if (task.brokenRows && part !== 'test' && (cells.length < length || cell(task.label) === '')) {
      broken++;
      continue;
    }
    if (cells.length !== length) throw new InputError(`${path}, line ${line}: has ${cells.length} columns, expected ${length}`);
    if (part !== 'test') {
      const label = cell(task.label);
      if (label === task.undecided) {
        undecided++;
        continue;
      }
      const value = labelOf(task, label);
      if (value === undefined) {
        const expected = task.classes.length > 0 ? task.classes.join(' or ') : 'a number from 0 to 5';
        throw new InputError(`${path}, line ${line}: ${task.label} '${label.slice(0, 80)}', expected ${expected}`);
      }
      labels.push(value);
    }
    const [text, pair] = task.texts.map(cell);
    characters += text.length + (pair?.length ?? 0) + charactersOfRow;
    if (characters > maximumCharacters) throw tooMuch(path);
    texts.push({ text, pair });
  }
  if (texts.length === 0) throw new InputError(`${path}: has no examples`);
  const notices: string[] = [];
  if (broken > 0) notices.push(`${path}: ${rows(broken)} without all ${columns?.length} columns left out`);
  if (undecided > 0) notices.push(`${path}: ${rows(undecided)} without an agreed ${task.label} ('${task.undecided}') left out`);
  return { texts, labels, notices };
}

const rows = (count: number) => `${count} ${count === 1 ? 'row' : 'rows'}`;

function labelOf({ classes }: GlueTask, label: string): number | undefined {
  const value = classes.length > 0 ? classes.indexOf(label) : label.trim() === '' ? Number.NaN : Number(label);
  return value >= 0 && (classes.length > 0 || value <= 5) ? value : undefined;
}
