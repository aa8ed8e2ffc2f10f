/** Files of labeled texts: TSV, CSV or JSON lines, plain or gzipped. */

import { InputError, quoted } from '../errors.ts';
import { readLines } from '../io/files.ts';
import { parseJsonText } from '../io/json.ts';

/** A text, or two that are judged together, with its label as the file has it: a class's name, or a score. */
export interface LabeledRecord {
  text: string;
  pair?: string;
  label: string | number;
  line: number;
}

export interface LabeledFile {
  /** Classes (a column `label`) or numbers (a column `score`). */
  kind: 'classes' | 'scores';
  records: LabeledRecord[];
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
 * are left aside. .tsv: tabs between columns, quotes are plain characters. .csv: RFC 4180, blanks around cells left aside, and semicolons, tabs
 * or bars between columns where the first line has them. Both name their columns in the first line. .jsonl, .ndjson: an object a line. Any of
 * them may be gzipped (.gz). Blanks around a class's name are no part of it.
 * @throws InputError naming file and line if something is missing or malformed
 */
export async function readLabeledFile(path: string): Promise<LabeledFile> {
  const ending = /\.(tsv|csv|jsonl|ndjson)(\.gz)?$/i.exec(path)?.[1].toLowerCase();
  if (!ending) throw new InputError(`${path}: expected a file whose name ends in .tsv, .csv or .jsonl (or those with .gz)`);
  const rows = ending === 'tsv' || ending === 'csv' ? await readTable(path, ending) : await readObjects(path);
  if (rows.length === 0) throw new InputError(`${path}: has no examples`);
  const { values: first, line: firstLine } = rows[0];
  checkColumns(Object.keys(first), path, firstLine);
  const kind = 'label' in first ? 'classes' : 'scores';
  const key = kind === 'classes' ? 'label' : 'score';
  const records = rows.map(({ values, line }): LabeledRecord => {
    const wrong = (name: string, expected: string) =>
      new InputError(
        `${path}, line ${line}: '${name}' is ${name in values ? quoted(values[name]) : `missing (found ${listed(Object.keys(values))})`}, expected ${expected}`,
      );
    const { text, pair } = values;
    if (typeof text !== 'string') throw wrong('text', 'a text');
    if (pair !== undefined ? typeof pair !== 'string' : 'pair' in first) throw wrong('pair', 'a text, as on the first line');
    if (pair !== undefined && !('pair' in first)) throw wrong('pair', 'none, as on the first line');
    const label = typeof values[key] === 'string' ? values[key].trim() : values[key];
    if (kind === 'scores') {
      const score = typeof label === 'string' && label !== '' ? Number(label) : label;
      if (typeof score !== 'number' || !Number.isFinite(score)) throw wrong(key, 'a number');
      return { text, pair: pair as string | undefined, label: score, line };
    }
    if ((typeof label !== 'string' && typeof label !== 'number' && typeof label !== 'boolean') || `${label}` === '')
      throw wrong(key, 'the name of a class');
    return { text, pair: pair as string | undefined, label: `${label}`, line };
  });
  return { kind, records };
}

/** @throws InputError, naming those found, if the columns, or the keys of the first object, are not those of labeled texts */
function checkColumns(found: readonly string[], path: string, line: number): void {
  const targets = found.filter((name) => name === 'label' || name === 'score');
  if (found.includes('text') && targets.length === 1) return;
  throw new InputError(
    `${path}, line ${line}: found ${targets.length === 2 ? "both 'label' and 'score'" : listed(found)}, expected 'text' (and 'pair', if there are two texts) and either 'label' (a class) or 'score' (a number)`,
  );
}

/** Columns as a message names them: short, for a file that is none has anything in its first line. */
export const listed = (names: readonly string[]) =>
  names
    .slice(0, 20)
    .map((name) => `'${name.slice(0, 40)}'`)
    .join(', ') || 'none';

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
  const { CsvError, parse } = await import('csv-parse/sync');
  const text = await readText(path);
  const delimiter = ending === 'tsv' ? '\t' : delimiterOf(text);
  try {
    const rows = parse(text, {
      columns(names: string[]) {
        const columns = names.map((name) => name.trim().toLowerCase());
        const twice = columns.find((name, index) => ['text', 'pair', 'label', 'score'].includes(name) && columns.indexOf(name) < index);
        if (twice !== undefined) throw new Error(`line 1: has two columns ${quoted(twice)}, expected one`);
        checkColumns(columns, path, 1);
        return columns;
      },
      delimiter,
      quote: ending === 'tsv' ? false : '"',
      trim: ending === 'csv',
      bom: true,
      info: true,
      skip_empty_lines: true,
    }) as unknown as { record: Record<string, string>; info: { lines: number } }[];
    return rows.map(({ record, info }) => ({ values: record, line: info.lines }));
  } catch (error) {
    if (error instanceof InputError) throw error;
    if (error instanceof CsvError && ['CSV_QUOTE_NOT_CLOSED', 'CSV_INVALID_CLOSING_QUOTE'].includes(error.code))
      throw new InputError(
        `${path}, line ${openQuoteLine(text, delimiter)}: a cell begins with a quotation mark that none closes before the next ${quoted(delimiter)} or line end: close it, and double those within it ("")`,
        { cause: error },
      );
    // The parser's messages name the line and what is wrong with it.
    throw new InputError(`${path}: ${(error as Error).message.replace(/\s+/g, ' ').slice(0, 200)}`, { cause: error });
  }
}

/** What stands between the columns of a CSV: a comma, or what else makes its first line name those of labeled texts. */
function delimiterOf(text: string): string {
  const header = /[^\r\n]+/.exec(text)?.[0] ?? '';
  const namesTexts = (delimiter: string) => {
    const names = header.split(delimiter).map((name) => name.replaceAll('"', '').trim().toLowerCase());
    return names.includes('text') && (names.includes('label') || names.includes('score'));
  };
  return [',', ';', '\t', '|'].find(namesTexts) ?? ',';
}

/** The line of a CSV on which the quotation mark stands that opens a cell and that none closes at the cell's end. */
function openQuoteLine(text: string, delimiter: string): number {
  const isBlank = (character: string) => ' \t\r'.includes(character) && character !== delimiter;
  const isEnd = (character: string | undefined) => character === undefined || character === '\n' || character === delimiter;
  let [line, begins, opened] = [1, true, 0];
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === '\n') line++;
    if (opened === 0) {
      if (begins && character === '"') opened = line;
      else begins = isEnd(character) || (begins && isBlank(character));
    } else if (character === '"') {
      if (text[at + 1] === '"') {
        at++;
        continue;
      }
      while (at + 1 < text.length && isBlank(text[at + 1])) at++;
      if (!isEnd(text[at + 1])) return opened;
      [opened, begins] = [0, false];
    }
  }
  return opened;
}

async function readObjects(path: string): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [index, text] of (await readText(path)).split('\n').entries()) {
    if (text.trim() === '') continue;
    const source = `${path}, line ${index + 1}`;
    const expected = 'expected a JSON object such as {"text": "...", "label": "..."}';
    let values: unknown;
    try {
      values = parseJsonText(index === 0 ? text.replace(/^\ufeff/, '') : text, source);
    } catch (error) {
      throw new InputError(`${(error as Error).message}; ${expected}`, { cause: error });
    }
    if (typeof values !== 'object' || values === null || Array.isArray(values)) throw new InputError(`${source}: ${expected}`);
    rows.push({ values: values as Record<string, unknown>, line: index + 1 });
  }
  return rows;
}
