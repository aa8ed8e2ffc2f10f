/** Files of labelled texts: TSV, CSV or JSON lines, plain or gzipped. */

import { InputError, quoted } from '../errors.ts';
import { readLines } from '../io/files.ts';

/** A text, or two that are judged together, with its label as the file has it: a class's name, or a score. */
export interface LabelledRecord {
  text: string;
  pair?: string;
  label: string | number;
  line: number;
}

export interface LabelledFile {
  /** Classes (a column `label`) or numbers (a column `score`). */
  kind: 'classes' | 'scores';
  records: LabelledRecord[];
}

/** Characters of one file's texts, at most: they are held in memory, with the tokens made of them. A row counts as some, however short. */
export const maximumCharacters = 2 ** 28;
export const charactersOfRow = 128;

export const tooMuch = (path: string) =>
  new InputError(
    `${path}: has more than ${maximumCharacters} characters (${charactersOfRow} for each row besides its own), expected at most as many`,
  );

/**
 * Reads the columns (in JSON lines, the keys) `text`, `pair` if there are two texts, and `label` (a class) or `score` (a number); others
 * are left aside. .tsv: tabs between columns, quotes are plain characters. .csv: RFC 4180. Both name their columns in the first line.
 * .jsonl, .ndjson: an object a line. Any of them may be gzipped (.gz).
 * @throws InputError naming file and line if something is missing or malformed
 */
export async function readLabelledFile(path: string): Promise<LabelledFile> {
  const ending = /\.(tsv|csv|jsonl|ndjson)(\.gz)?$/i.exec(path)?.[1].toLowerCase();
  if (!ending) throw new InputError(`${path}: expected a file whose name ends in .tsv, .csv or .jsonl (or those with .gz)`);
  const rows = ending === 'tsv' || ending === 'csv' ? await readTable(path, ending) : await readObjects(path);
  if (rows.length === 0) throw new InputError(`${path}: has no examples`);
  const first = rows[0].values;
  if ('label' in first === 'score' in first) {
    const found =
      'label' in first
        ? 'both'
        : `neither, but ${Object.keys(first)
            .map((name) => `'${name}'`)
            .join(', ')}`;
    throw new InputError(`${path}, line ${rows[0].line}: expected either 'label' (a class) or 'score' (a number), found ${found}`);
  }
  const kind = 'label' in first ? 'classes' : 'scores';
  const key = kind === 'classes' ? 'label' : 'score';
  const records = rows.map(({ values, line }): LabelledRecord => {
    const wrong = (name: string, expected: string) =>
      new InputError(`${path}, line ${line}: '${name}' is ${name in values ? quoted(values[name]) : 'missing'}, expected ${expected}`);
    const { text, pair } = values;
    if (typeof text !== 'string') throw wrong('text', 'a text');
    if (pair !== undefined ? typeof pair !== 'string' : 'pair' in first) throw wrong('pair', 'a text, as on the first line');
    if (pair !== undefined && !('pair' in first)) throw wrong('pair', 'none, as on the first line');
    const label = values[key];
    if (kind === 'scores') {
      const score = typeof label === 'string' && label.trim() !== '' ? Number(label) : label;
      if (typeof score !== 'number' || !Number.isFinite(score)) throw wrong(key, 'a number');
      return { text, pair: pair as string | undefined, label: score, line };
    }
    if ((typeof label !== 'string' && typeof label !== 'number' && typeof label !== 'boolean') || `${label}` === '')
      throw wrong(key, 'the name of a class');
    return { text, pair: pair as string | undefined, label: `${label}`, line };
  });
  return { kind, records };
}

interface Row {
  values: Record<string, unknown>;
  line: number;
}

async function readText(path: string): Promise<string> {
  const lines: string[] = [];
  let characters = 0;
  for await (const line of readLines(path, 'refuse')) {
    characters += line.length + charactersOfRow;
    if (characters > maximumCharacters) throw tooMuch(path);
    lines.push(line);
  }
  return lines.join('\n');
}

async function readTable(path: string, ending: 'tsv' | 'csv'): Promise<Row[]> {
  const { parse } = await import('csv-parse/sync');
  const text = await readText(path);
  try {
    const rows = parse(text, {
      columns(names: string[]) {
        const columns = names.map((name) => name.trim().toLowerCase());
        const twice = columns.find((name, index) => ['text', 'pair', 'label', 'score'].includes(name) && columns.indexOf(name) < index);
        if (twice !== undefined) throw new Error(`line 1: has two columns ${quoted(twice)}, expected one`);
        return columns;
      },
      delimiter: ending === 'tsv' ? '\t' : ',',
      quote: ending === 'tsv' ? false : '"',
      bom: true,
      info: true,
      skip_empty_lines: true,
    }) as unknown as { record: Record<string, string>; info: { lines: number } }[];
    return rows.map(({ record, info }) => ({ values: record, line: info.lines }));
  } catch (error) {
    // The parser's messages name the line and what is wrong with it.
    throw new InputError(`${path}: ${(error as Error).message.replace(/\s+/g, ' ').slice(0, 200)}`, { cause: error });
  }
}

async function readObjects(path: string): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [index, text] of (await readText(path)).split('\n').entries()) {
    if (text.trim() === '') continue;
    let values: unknown;
    try {
      values = JSON.parse(index === 0 ? text.replace(/^\ufeff/, '') : text);
    } catch {
      // Told below.
    }
    if (typeof values !== 'object' || values === null || Array.isArray(values))
      throw new InputError(`${path}, line ${index + 1}: expected a JSON object such as {"text": "...", "label": "..."}`);
    rows.push({ values: values as Record<string, unknown>, line: index + 1 });
  }
  return rows;
}
