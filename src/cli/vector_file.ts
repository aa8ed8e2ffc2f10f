/** A file of vectors that is written as they come, and gone on with where it was stopped. */
import { existsSync } from 'node:fs';
import { type FileHandle, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type Lock, makeFolder } from '#platform';
import { InputError, quoted } from '../errors.ts';
import { fileError } from '../io/files.ts';
import { takeLock } from '../io/lock.ts';
import { type EmbeddingDtype, noRangesError, quantizedWidth, toBinary } from '../pipelines/quantization.ts';
import { isParquet, writeVectors } from './parquet.ts';
import { quantizeRows } from './quantized_file.ts';

/** What lies beside a file of vectors while it is made: the vectors, what they are made by, and who makes them. */
export const partEndings = ['.part', '.part.json', '.part.lock'];

/** What a file of vectors is to be. */
export interface VectorFileOptions {
  /** Numbers of a vector. */
  width: number;
  dtype: EmbeddingDtype;
  /** What the vectors are made by, by the names of options: none made otherwise are added to them. */
  madeBy: Record<string, unknown>;
  /** Go on with what was stopped. */
  resume?: boolean;
}

/**
 * Vectors in FILE.part, which becomes FILE when all are there. FILE.part.json says what they were made by, so that nothing else is added, and
 * FILE.part.lock which process adds to them.
 */
export class VectorFile {
  private pending: Uint8Array[] = [];
  private pendingBytes = 0;

  private constructor(
    private readonly path: string,
    private readonly file: FileHandle,
    private readonly lock: Lock,
    private readonly width: number,
    private readonly dtype: EmbeddingDtype,
    /** Vectors there. */
    public rows: number,
    private position: number,
    private readonly encode: typeof import('../io/npy.ts'),
  ) {}

  /** @throws InputError if another process is at it, or what is there is not to be gone on with */
  static async open(path: string, options: VectorFileOptions): Promise<VectorFile> {
    let lock: Lock;
    try {
      await makeFolder(dirname(path));
      lock = await takeLock(`${path}.part.lock`, path, 'it');
    } catch (error) {
      throw fileError(error, path, 'write');
    }
    try {
      return await VectorFile.openLocked(path, lock, options);
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  private static async openLocked(path: string, lock: Lock, { width, dtype, madeBy, resume }: VectorFileOptions): Promise<VectorFile> {
    const encode = await import('../io/npy.ts');
    const [part, said] = partEndings.map((ending) => `${path}${ending}`);
    const now = JSON.stringify(madeBy);
    const started = existsSync(part) && existsSync(said);
    for (const name of started ? [] : [part, said].filter((each) => existsSync(each))) {
      // What a crash leaves before anything was written, or after all was.
      const isOwn =
        name === part ? (await stat(name)).size === 0 : ['', now].includes(await readFile(name, 'utf8').catch(() => 'a folder, say'));
      if (!isOwn) throw new InputError(`${name} exists, and is not what was left of vectors here: remove it, or name another --out`);
      await rm(name);
    }
    const anew = `remove ${part} and ${said} to begin anew`;
    if (started && !resume) throw new InputError(`${part} exists: go on with --resume, or ${anew}`);
    const goesOn = started && resume === true;
    if (goesOn) {
      const difference = differenceOf(await readFile(said, 'utf8'), madeBy);
      if (difference) throw new InputError(`${said}: the vectors there were made otherwise: ${difference}; say the same again, or ${anew}`);
    }
    if (resume && !started && existsSync(path)) throw new InputError(`${path}: is finished; leave out --resume to make it anew`);
    try {
      const file = await open(part, goesOn ? 'r+' : 'wx+');
      if (!goesOn) await writeFile(said, now, { flag: 'wx' });
      const isMatrix = isOfRows(path);
      const [rows, position] = !goesOn
        ? [0, isMatrix ? encode.npyHeaderBytes : 0]
        : isMatrix
          ? await wholeRows(file, dtype === 'binary' ? quantizedWidth(width, 'binary') : 4 * width, encode.npyHeaderBytes)
          : await wholeLines(file);
      await file.truncate(position);
      return new VectorFile(path, file, lock, width, dtype, rows, position, encode);
    } catch (error) {
      throw fileError(error, part, 'write');
    }
  }

  async add(vector: Float32Array): Promise<void> {
    // i8 waits for the ranges, which the last vector may widen.
    const values = this.dtype === 'binary' ? toBinary(vector) : Float32Array.from(vector);
    const bytes = isOfRows(this.path) ? new Uint8Array(values.buffer) : new TextEncoder().encode(`${JSON.stringify(Array.from(values))}\n`);
    this.pending.push(bytes);
    this.pendingBytes += bytes.length;
    this.rows++;
    if (this.pendingBytes >= 2 ** 20) await this.flush();
  }

  async finish(): Promise<void> {
    if (this.dtype === 'i8' && this.rows === 1) {
      this.rows = 0; // it is not kept for another time
      throw noRangesError();
    }
    await this.flush();
    const { npyHeader, npyHeaderBytes, npyRows } = this.encode;
    const [columns, type] = this.dtype === 'binary' ? [quantizedWidth(this.width, 'binary'), '|i1' as const] : [this.width, '<f4' as const];
    try {
      if (isOfRows(this.path)) await this.file.write(npyHeader(this.rows, columns, type), 0, npyHeaderBytes, 0);
      await this.file.sync();
    } catch (error) {
      throw this.inWords(error);
    }
    if (this.dtype === 'i8') {
      // The part stays until what is made of it is whole.
      await quantizeRows(this.file, { rows: this.rows, width: this.width }, this.path);
      await this.file.close();
      await rm(`${this.path}.part`);
    } else if (isParquet(this.path)) {
      await this.file.close();
      await writeVectors(this.path, (await npyRows(`${this.path}.part`)).values());
      await rm(`${this.path}.part`);
    } else {
      await this.file.close();
      await rename(`${this.path}.part`, this.path);
    }
    await rm(`${this.path}.part.json`, { force: true });
    await this.lock.release();
  }

  /** Keeps what is there for another time; nothing, if there is nothing. */
  async close(): Promise<void> {
    try {
      await this.flush();
      await this.file.close();
      if (this.rows > 0) return;
      for (const ending of partEndings) await rm(`${this.path}${ending}`, { force: true });
    } finally {
      await this.lock.release();
    }
  }

  private async flush(): Promise<void> {
    const bytes = Buffer.concat(this.pending);
    this.pending = [];
    this.pendingBytes = 0;
    try {
      for (let done = 0; done < bytes.length; ) {
        const { bytesWritten } = await this.file.write(bytes, done, bytes.length - done, this.position);
        done += bytesWritten;
        this.position += bytesWritten;
      }
    } catch (error) {
      throw this.inWords(error);
    }
  }

  /** An error of the system, which does not name the file of a handle. */
  private inWords(error: unknown): unknown {
    return fileError(error, `${this.path}.part`, 'write');
  }
}

/** Whether vectors are kept as a matrix while they are made. */
const isOfRows = (path: string) => path.endsWith('.npy') || isParquet(path);

/** Rows of a matrix that are complete, and where they end. */
async function wholeRows(file: FileHandle, rowBytes: number, start: number): Promise<[number, number]> {
  const { size } = await file.stat();
  const rows = Math.max(Math.floor((size - start) / rowBytes), 0);
  return [rows, start + rows * rowBytes];
}

/** The same of lines. */
async function wholeLines(file: FileHandle): Promise<[number, number]> {
  const block = new Uint8Array(2 ** 20);
  let [rows, end] = [0, 0];
  for (let start = 0; ; ) {
    const { bytesRead } = await file.read(block, 0, block.length, start);
    if (bytesRead === 0) return [rows, end];
    for (let at = block.indexOf(10); at >= 0 && at < bytesRead; at = block.indexOf(10, at + 1)) {
      rows++;
      end = start + at + 1;
    }
    start += bytesRead;
  }
}

/** In words, the first thing that was another one when vectors were begun; undefined if all is as it was. */
function differenceOf(before: string, now: Record<string, unknown>): string | undefined {
  let then: Record<string, unknown>;
  try {
    then = Object(JSON.parse(before));
  } catch {
    return 'what they were made by cannot be read';
  }
  const shown = (value: unknown) => (value === undefined ? 'not given' : quoted(value));
  const named = [...new Set([...Object.keys(now), ...Object.keys(then)])];
  // As it is stored: what is undefined is not there.
  const other = named.find((name) => JSON.stringify(then[name]) !== JSON.stringify(now[name]));
  if (other === undefined) return undefined;
  const isFile = [then[other], now[other]].some((value) => typeof value === 'object');
  return isFile
    ? `${other} named other files, or they were changed since`
    : `${other} was ${shown(then[other])} and is ${shown(now[other])}`;
}
