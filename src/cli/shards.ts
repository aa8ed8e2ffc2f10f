/** A text embedded in parts, each by a process of its own, on machines that a scheduler chooses; and the parts put together. */
import { readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { InputError } from '../errors.ts';
import { fileError, readLines, writeAtomically } from '../io/files.ts';
import { npyHeader, npyRows } from '../io/npy.ts';
import { isParquet, parquetVectors, writeVectors } from './parquet.ts';

/** The lines `index`, `index + count` and so on, from 0. */
export interface Shard {
  index: number;
  count: number;
}

/** Where schedulers say which part a process is: a Kubernetes Indexed Job, a SLURM array. */
const variables = ['JOB_COMPLETION_INDEX', 'SLURM_ARRAY_TASK_ID'];

/** Reads 'I/N', or 'N' with I from the scheduler. @throws InputError if it is neither, or I is not below N */
export function parseShard(text: string, environment: Record<string, string | undefined>): Shard {
  const parts = /^(?:(\d{1,5})\/)?(\d{1,5})$/.exec(text);
  if (!parts) throw new InputError(`--shard ${text}: expected I/N, I from 0, or N alone`);
  const variable = variables.find((name) => environment[name] !== undefined);
  const given = parts[1] ?? (variable === undefined ? undefined : environment[variable]);
  if (given === undefined)
    throw new InputError(`--shard ${text}: neither ${variables.join(' nor ')} says which part it is, expected I/${text}`);
  const [index, count] = [Number(given), Number(parts[2])];
  if (!/^\d+$/.test(given) || index >= count)
    throw new InputError(`--shard ${text}: part ${given} of ${count}, expected 0 to ${count - 1}${parts[1] ? '' : ` in ${variable}`}`);
  return { index, count };
}

const ending = /(\.[^./\\]+)?$/;

/** vectors.npy, part 2 of 8: vectors.00002-of-00008.npy. */
export const shardPath = (out: string, { index, count }: Shard) =>
  out.replace(ending, (end) => `.${digits(index)}-of-${digits(count)}${end}`);
const digits = (value: number) => `${value}`.padStart(5, '0');

/**
 * Puts the parts of `out` together, in the order of the text's lines; the parts stay. Returns how many vectors there are.
 * @throws InputError if a part is missing, or is not as long as it has to be
 */
export async function mergeShards(out: string): Promise<number> {
  const paths = await shardsOf(out);
  let rows = 0;
  const count = (vectors: AsyncIterable<Float32Array>) =>
    (async function* () {
      for await (const vector of vectors) {
        rows++;
        yield vector;
      }
    })();
  if (isParquet(out)) await writeVectors(out, count(interleaved(paths, paths.map(parquetVectors))));
  else if (out.endsWith('.npy')) {
    const parts = await Promise.all(paths.map(npyRows));
    const [{ columns }] = parts;
    const other = parts.findIndex((part) => part.columns !== columns);
    if (other >= 0) throw new InputError(`${paths[other]}: has vectors of ${parts[other].columns} numbers, and ${paths[0]} of ${columns}`);
    const total = parts.reduce((sum, part) => sum + part.rows, 0);
    await writeAtomically(out, async (write) => {
      await write(npyHeader(total, columns));
      for await (const vector of count(
        interleaved(
          paths,
          parts.map((part) => part.values()),
        ),
      ))
        await write(new Uint8Array(vector.buffer, vector.byteOffset, vector.byteLength));
    });
  } else
    await writeAtomically(out, async (write) => {
      const encoder = new TextEncoder();
      for await (const line of interleaved(
        paths,
        paths.map((path) => readLines(path)),
      )) {
        rows++;
        await write(encoder.encode(`${line}\n`));
      }
    });
  return rows;
}

/** The files of all parts, in order. */
async function shardsOf(out: string): Promise<string[]> {
  const folder = dirname(out);
  const names = await readdir(folder).catch((error) => Promise.reject(fileError(error, folder, 'read')));
  const pattern = /^(\d{5})-of-(\d{5})$/;
  const [begin, end] = [basename(out).replace(ending, ''), ending.exec(basename(out))?.[0] ?? ''];
  const counts = new Set<number>();
  for (const name of names) {
    const parts =
      name.startsWith(`${begin}.`) && name.endsWith(end) ? pattern.exec(name.slice(begin.length + 1, name.length - end.length)) : null;
    if (parts) counts.add(Number(parts[2]));
  }
  if (counts.size !== 1)
    throw new InputError(
      counts.size === 0
        ? `${out}: there are no parts beside it, expected ${basename(shardPath(out, { index: 0, count: 8 }))} and so on, as --shard makes them`
        : `${out}: there are parts of ${[...counts].join(' and of ')}: remove those of an earlier run`,
    );
  const [count] = counts;
  const paths = Array.from({ length: count }, (_, index) => join(folder, basename(shardPath(out, { index, count }))));
  const missing = paths.filter((path) => !names.includes(basename(path)));
  if (missing.length > 0)
    throw new InputError(`${out}: ${missing.length} of ${count} parts are missing, ${missing[0]} first: run them, or run them again`);
  return paths;
}

/** One of each in turn. @throws InputError if one ends before its turn, or has more than it */
async function* interleaved<Row>(paths: readonly string[], parts: readonly AsyncIterable<Row>[]): AsyncGenerator<Row> {
  const iterators = parts.map((part) => part[Symbol.asyncIterator]());
  let ended: string | undefined;
  for (let row = 0; ; row++) {
    const part = row % paths.length;
    const { value, done } = await iterators[part].next();
    if (done) ended ??= paths[part];
    else if (ended !== undefined) throw new InputError(`${ended}: has fewer vectors than ${paths[part]} calls for: run that part again`);
    else yield value;
    if (done && part === paths.length - 1) return;
  }
}
