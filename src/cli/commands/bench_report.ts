/** How the benchmarks say what they measured. */
import { cpus } from 'node:os';
import { joinPath, makeFolder } from '#platform';
import type { Device } from '../../backend/device.ts';
import { InputError, printable } from '../../errors.ts';
import { fileError, writeFileAtomic } from '../../io/files.ts';

/** What the figures hold for. */
export function machine(device: Device): string {
  const processors = cpus();
  return `${processors[0]?.model.trim() ?? 'unknown processor'}, ${processors.length} visible cores; Node ${process.versions.node}; ${device.name}: ${device.description}`;
}

/** Makes the folder for {@link writeReport}, before anything is measured. Throws InputError if it cannot be made. */
export async function makeReportFolder(folder: string | undefined): Promise<void> {
  if (folder !== undefined) await makeFolder(folder).catch((error) => Promise.reject(fileError(error, folder, 'write')));
}

/** Writes NAME.json and NAME.svg into a folder. Throws InputError if they cannot be written. */
export async function writeReport(folder: string, name: string, results: unknown, picture: string): Promise<void> {
  await writeFileAtomic(joinPath(folder, `${name}.json`), `${JSON.stringify(results, undefined, 2)}\n`);
  await writeFileAtomic(joinPath(folder, `${name}.svg`), picture);
}

/** A table in plain text: the first column to the left, the others to the right. */
export function table(cells: readonly (readonly string[])[]): string {
  const rows = cells.map((row) => row.map(printable));
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[column]) : cell.padStart(widths[column])))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** For options that take whole numbers from 1 with commas between them. */
export function countsOf(option: string, text: string): number[] {
  const counts = text.split(',').map(Number);
  if (!counts.every((count) => Number.isSafeInteger(count) && count >= 1))
    throw new InputError(`${option} ${text}: expected whole numbers from 1, with commas between them`);
  return counts;
}

/** For options that take some of a few words, with commas between them. */
export function wordsOf<Word extends string>(option: string, text: string, words: readonly Word[]): Word[] {
  const chosen = text.split(',') as Word[];
  if (!chosen.every((word) => words.includes(word)))
    throw new InputError(`${option} ${text}: expected some of ${words.join(', ')}, with commas between them`);
  return chosen;
}
