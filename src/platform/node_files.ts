/** Node's files: reading, writing aside, folders. */

import { createHash } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, realpath, rename, rm, rmdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { pipeline as pipeStreams, Readable } from 'node:stream';
import { threadId } from 'node:worker_threads';
import { createGunzip } from 'node:zlib';
import { isAlive, place } from './node_lock.ts';

/** A file whose bytes are read where they are wanted. */
export interface RandomAccessFile {
  /** For messages. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Exactly `length` bytes from `offset`, in `into` where it is given (and long enough) and the platform can; rejects if the file ends before. */
  read(offset: number, length: number, into?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>>;
  close(): Promise<void>;
}

/** A file being written beside its final place. Nothing is seen under the final name before `commit`. */
export interface AsideFile {
  /** Appends; the bytes may be reused once the promise resolves. */
  write(bytes: Uint8Array): Promise<void>;
  /** Flushes to the disk and renames to the final name. */
  commit(): Promise<void>;
  /** Removes what was written. Does nothing after commit. */
  abort(): Promise<void>;
}

/** One system call reads or writes at most 2 GiB; stay well below. */
const bytesPerCall = 2 ** 28;

/** The error's system code, 'ENOENT' say, if it has one. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

export async function openFile(path: string): Promise<RandomAccessFile> {
  // What is no file is refused; a pipe would otherwise be waited for until somebody writes to it.
  const handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  try {
    const status = await handle.stat();
    if (!status.isFile()) throw Object.assign(new Error(`${path} is not a file`), { code: status.isDirectory() ? 'EISDIR' : 'EINVAL' });
    return {
      name: path,
      size: status.size,
      read: (offset, length, into) => readFully(handle, path, offset, into?.subarray(0, length) ?? new Uint8Array(length)),
      close: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function readFully(
  handle: FileHandle,
  path: string,
  offset: number,
  bytes: Uint8Array<ArrayBuffer>,
): Promise<Uint8Array<ArrayBuffer>> {
  const { length } = bytes;
  for (let done = 0; done < length; ) {
    const { bytesRead } = await handle.read(bytes, done, Math.min(length - done, bytesPerCall), offset + done);
    if (bytesRead === 0) throw new Error(`${path} ended at byte ${offset + done} while it was being read`);
    done += bytesRead;
  }
  return bytes;
}

/** Starts writing `path` under a temporary name in the same folder, which is made if it is missing. */
export async function writeAside(path: string): Promise<AsideFile> {
  // Renaming onto a folder fails only at the end, and onto a device replaces it: say so at the start, before hours of work.
  const kind = await kindOf(path);
  if (kind === 'folder' || path.endsWith('/')) throw Object.assign(new Error(`${path} is a folder`), { code: 'EISDIR' });
  if (kind === 'other') throw Object.assign(new Error(`${path} is not a regular file`), { code: 'EINVAL' });
  // A link goes on leading where it did, and who may read the file may do so still.
  const target = kind === 'file' ? await realpath(path) : path;
  const mode = kind === 'file' ? (await stat(target)).mode & 0o777 : undefined;
  const folder = dirname(target);
  const made = await makeFolder(folder);
  await removeParts(folder);
  const aside = asideOf(target);
  // A process that was killed while writing leaves its part behind, and its number comes back: in a container always the same one.
  await rm(aside, { force: true });
  const handle = await open(aside, 'wx', mode);
  let isOpen = true;
  const close = async () => {
    if (isOpen) await handle.close();
    isOpen = false;
  };
  return {
    async write(bytes) {
      for (let done = 0; done < bytes.length; ) {
        const { bytesWritten } = await handle.write(bytes, done, Math.min(bytes.length - done, bytesPerCall));
        done += bytesWritten;
      }
    },
    async commit() {
      if (mode !== undefined) await handle.chmod(mode);
      await handle.sync();
      await close();
      await rename(aside, target);
    },
    async abort() {
      await close();
      await rm(aside, { force: true });
      if (made) await removeEmptyFolders(folder, made);
    },
  };
}
let asideCount = 0;

/** The name under which a file is written before it has its own: it tells of which process it is. */
export function asideOf(path: string): string {
  return join(dirname(path), `.${basename(path).slice(0, 100)}.${place()}.${process.pid}-${threadId}.${++asideCount}.part`);
}

const partName = /^\..+?(?:\.([\da-f]{8}))?\.(\d+)-\d+\.\d+\.part$/;

/** Removes what processes that are no more were writing in a folder. `all`: whoever wrote it, and in the folders within too; the caller has it to itself. */
export async function removeParts(folder: string, options: { all?: boolean } = {}): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (options.all && entry.isDirectory()) await removeParts(path, options);
    const [, where, pid] = partName.exec(entry.name) ?? [];
    if (pid === undefined || entry.isDirectory()) continue;
    // Of names that do not tell the machine, which older versions gave, only who has the folder to itself knows.
    if (options.all || (where === place() && !isAlive(Number(pid)))) await rm(path, { force: true }).catch(() => {});
  }
}

/** A SHA-256 that grows with what is added. */
export function startHash(): { add(bytes: Uint8Array | string): void; digest(): Uint8Array<ArrayBuffer> } {
  const hash = createHash('sha256');
  return { add: (bytes) => void hash.update(bytes), digest: () => new Uint8Array(hash.digest()) };
}

/** The file's bytes, block by block. */
export async function* readBlocks(path: string): AsyncGenerator<Uint8Array> {
  yield* createReadStream(path, { highWaterMark: 2 ** 18 }) as AsyncIterable<Uint8Array>;
}

/** Decompresses a gzip stream (of one or several members). Rejects if it is corrupt or cut short. */
export async function* gunzip(blocks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const output = createGunzip({ chunkSize: 2 ** 18 });
  const input = Readable.from(blocks, { objectMode: false });
  pipeStreams(input, output, () => {
    // The error reaches the reader through `output`.
  });
  yield* output as AsyncIterable<Uint8Array>;
}

export async function kindOf(path: string): Promise<'file' | 'folder' | 'other' | 'missing'> {
  try {
    const status = await stat(path);
    return status.isFile() ? 'file' : status.isDirectory() ? 'folder' : 'other';
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ENOTDIR') return 'missing';
    throw error;
  }
}

/** Whether something lies at a path that may be a model's, so that it is not looked for elsewhere. */
export async function isModelFolder(path: string): Promise<boolean> {
  return (await kindOf(path)) !== 'missing';
}

/**
 * Makes a folder and those above it that are missing; returns the first one that was made, if any. One by one, for Node 20's
 * `recursive` never ends where making a folder fails with ENOENT though the one above exists (/proc).
 */
export async function makeFolder(path: string): Promise<string | undefined> {
  if ((await kindOf(path)) === 'folder') return undefined;
  const above = dirname(path);
  const made = above === path ? undefined : await makeFolder(above);
  try {
    await mkdir(path);
  } catch (error) {
    if ((await kindOf(path)) !== 'folder') throw error; // otherwise somebody else has just made it
  }
  return made ?? path;
}

/** Removes `folder` and those above it up to `last`, as far as they are empty. */
export async function removeEmptyFolders(folder: string, last: string): Promise<void> {
  try {
    for (let path = folder; ; path = dirname(path)) {
      await rmdir(path);
      if (path === last) return;
    }
  } catch {
    // Others have put something there: it stays.
  }
}

/** Names in a folder, sorted. */
export async function listFolder(path: string): Promise<string[]> {
  return (await readdir(path)).sort();
}

export async function removeFile(path: string): Promise<void> {
  await rm(path, { force: true, recursive: true });
}
