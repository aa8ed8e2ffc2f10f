/** Parquet: a column of texts to read, a column of vectors to write and to read. */
import { rename, rm } from 'node:fs/promises';
import { InputError } from '../errors.ts';
import { fileError } from '../io/files.ts';

/** Rows of vectors that are read or written at a time. */
const rowsAtOnce = 4096;
const vectorColumn = 'embedding';

export const isParquet = (path: string) => path.endsWith('.parquet');

interface Opened {
  groups: readonly number[];
  columns: readonly { name: string; isText: boolean }[];
  /** Values of a column, from a row to another, excluded. */
  read(column: string, start: number, end: number): Promise<unknown[]>;
}

/** @throws InputError naming the file if it is no Parquet */
async function open(path: string): Promise<Opened> {
  const [{ asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects, parquetSchema }, { compressors }] = await Promise.all([
    import('hyparquet'),
    import('hyparquet-compressors'),
  ]);
  const inWords = (error: unknown) => {
    if ((error as NodeJS.ErrnoException).code !== undefined) return fileError(error, path, 'read');
    return new InputError(`${path}: cannot be read as Parquet: ${(error as Error).message}`, { cause: error });
  };
  try {
    const file = await asyncBufferFromFile(path);
    const metadata = await parquetMetadataAsync(file);
    const columns = parquetSchema(metadata).children.map(({ element, children }) => ({
      name: element.name,
      isText: children.length === 0 && element.type === 'BYTE_ARRAY',
    }));
    return {
      groups: metadata.row_groups.map(({ num_rows }) => Number(num_rows)),
      columns,
      async read(column, rowStart, rowEnd) {
        try {
          const rows = await parquetReadObjects({ file, metadata, columns: [column], rowStart, rowEnd, compressors });
          return rows.map((row) => row[column]);
        } catch (error) {
          throw inWords(error);
        }
      },
    };
  } catch (error) {
    throw inWords(error);
  }
}

/**
 * The texts of a column, in order; one that is null is empty. `column`: by default 'text', or the only column of texts.
 * @throws InputError if there is no such column
 */
export async function* parquetTexts(path: string, column?: string): AsyncGenerator<string> {
  const { groups, columns, read } = await open(path);
  const texts = columns.filter(({ isText }) => isText).map(({ name }) => name);
  const name = column ?? (texts.includes('text') ? 'text' : texts.length === 1 ? texts[0] : undefined);
  if (name === undefined || !texts.includes(name))
    throw new InputError(
      `${path}: has ${column === undefined ? 'several columns of texts or none' : `no column ${column} of texts`}, expected one of ${texts.join(', ') || 'them'} by --column`,
    );
  let start = 0;
  for (const rows of groups) {
    for (const value of await read(name, start, start + rows)) yield typeof value === 'string' ? value : '';
    start += rows;
  }
}

/** The vectors that {@link writeVectors} wrote. @throws InputError if they are not there, or no numbers */
export async function* parquetVectors(path: string): AsyncGenerator<Float32Array> {
  const { groups, columns, read } = await open(path);
  if (!columns.some(({ name }) => name === vectorColumn)) throw new InputError(`${path}: has no column ${vectorColumn}, expected vectors`);
  let start = 0;
  for (const rows of groups) {
    for (const value of await read(vectorColumn, start, start + rows)) {
      if (!Array.isArray(value)) throw new InputError(`${path}: column ${vectorColumn} holds something else than lists, expected vectors`);
      yield Float32Array.from(value as number[]);
    }
    start += rows;
  }
}

/** Writes vectors as the column `embedding`, lists of float32, aside and then renamed. */
export async function writeVectors(path: string, vectors: AsyncIterable<Float32Array>): Promise<void> {
  const { fileWriter, ParquetWriter } = await import('hyparquet-writer');
  const aside = `${path}.part.parquet`;
  try {
    const writer = new ParquetWriter({
      writer: fileWriter(aside),
      createdBy: 'ultrafastbert',
      // Their order means nothing, and they do not get smaller.
      codec: 'UNCOMPRESSED',
      statistics: false,
      schema: [
        { name: 'root', num_children: 1 },
        { name: vectorColumn, repetition_type: 'REQUIRED', num_children: 1, converted_type: 'LIST', logical_type: { type: 'LIST' } },
        { name: 'list', repetition_type: 'REPEATED', num_children: 1 },
        { name: 'element', repetition_type: 'REQUIRED', type: 'FLOAT' },
      ],
    });
    let rows: number[][] = [];
    const write = async () => {
      if (rows.length > 0)
        await writer.write({ columnData: [{ name: vectorColumn, data: rows, encoding: 'PLAIN' }], rowGroupSize: rowsAtOnce });
      rows = [];
    };
    for await (const vector of vectors) {
      rows.push(Array.from(vector));
      if (rows.length === rowsAtOnce) await write();
    }
    await write();
    await writer.finish();
    await rename(aside, path);
  } catch (error) {
    await rm(aside, { force: true });
    throw error instanceof InputError ? error : fileError(error, path, 'write');
  }
}
