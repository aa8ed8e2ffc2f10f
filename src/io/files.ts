import { errorCode, gunzip, joinPath, openFile, readBlocks, kindOf as systemKindOf, writeAside } from '#platform';
import { FailureError, InputError, memoryError } from '../errors.ts';
import { type JsonExtent, parseJsonText } from './json.ts';
import { decodeUtf8 } from './utf8.ts';

/** JSON files here are configurations and tokenizers; anything larger is a mistake. */
export const maximumJsonBytes = 2 ** 28;
/** A file that is copied is read whole. */
const maximumCopiedBytes = 2 ** 30;
/** Longer lines do not come whole, so that a file without line ends cannot fill the memory. UTF-16 units. */
const maximumLineLength = 2 ** 20;

/** What becomes of lines of more than a million characters: pieces, cut at spaces where there are any; the first piece alone; an InputError. */
export type LongLines = 'pieces' | 'cut' | 'refuse';

const reasons: Record<string, string> = {
  ENOENT: 'no such file or folder',
  ENOTDIR: 'a part of the path is not a folder',
  EISDIR: 'is a folder, not a file',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EROFS: 'the file system is read-only',
  EEXIST: 'a part of the path is not a folder',
  EINVAL: 'is not a regular file',
  ENAMETOOLONG: 'the name is too long',
  ELOOP: 'symbolic links that lead to each other',
};

/** What is no mistake of the user's: what it is, and what can be done. */
const failures: Record<string, string> = {
  ENOSPC: 'no space is left on the disk: free some, or name a place on another disk',
  EDQUOT: 'the quota of the disk is used up: free some space, or name a place on another disk',
  EFBIG: 'the file would be larger than it may be: raise the limit (ulimit -f), or name a place on another file system',
  EMFILE: 'too many files are open: raise the limit (ulimit -n)',
  ENFILE: 'too many files are open in the whole system: end other programs',
  ENOMEM: 'there is not enough memory: end other programs, or raise the limit (ulimit -v)',
  EIO: 'the disk failed (an input/output error): look after the disk, or name a place on another',
  EBUSY: 'is in use by the system or another program: end that, or name another place',
};

/**
 * A system error on `path` in words: an {@link InputError} of what the user can name otherwise, a {@link FailureError} of a full disk and the
 * like; any other error comes back as it is.
 */
export function fileError(error: unknown, path: string, action: 'read' | 'write'): unknown {
  const code = errorCode(error) ?? '';
  const said = (reason: string) => `${path || "''"}: cannot ${action}: ${reason}`;
  if (Object.hasOwn(reasons, code)) return new InputError(said(reasons[code]), { cause: error });
  if (Object.hasOwn(failures, code)) return new FailureError(said(failures[code]), { cause: error });
  return error instanceof RangeError ? memoryError(error, path) : error;
}

/** What lies at a path. @throws InputError if that cannot be told */
export async function kindOf(path: string): ReturnType<typeof systemKindOf> {
  try {
    return await systemKindOf(path);
  } catch (error) {
    throw fileError(error, path, 'read');
  }
}

/** The whole file. Throws InputError if it cannot be read or is larger than `maximumBytes`. */
export async function readBytes(path: string, maximumBytes = 2 ** 31): Promise<Uint8Array<ArrayBuffer>> {
  try {
    const file = await openFile(path);
    try {
      if (file.size > maximumBytes) throw new InputError(`${path}: ${file.size} bytes, expected at most ${maximumBytes}`);
      return await file.read(0, file.size);
    } finally {
      await file.close();
    }
  } catch (error) {
    throw fileError(error, path, 'read');
  }
}

/** A JSON file's value. Throws InputError naming the file if it is missing, not UTF-8, not JSON, or holds more than `extent` (that of a configuration). */
export async function readJson(path: string, extent?: JsonExtent): Promise<unknown> {
  return parseJson(await readBytes(path, maximumJsonBytes), path, extent);
}

/** JSON of UTF-8 bytes; `source` names them in the InputError. */
export function parseJson(bytes: Uint8Array, source: string, extent?: JsonExtent): unknown {
  if (bytes.length === 0) throw new InputError(`${source}: is empty, expected JSON`);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new InputError(`${source}: is not UTF-8 text, expected JSON`);
  }
  return parseJsonText(text, source, extent);
}

/** Writes aside, then renames: readers see the old file or the new one, never half of it. The folder is made if it is missing. */
export function writeFileAtomic(path: string, data: string | Uint8Array): Promise<void> {
  return writeAtomically(path, (write) => write(typeof data === 'string' ? new TextEncoder().encode(data) : data));
}

/** The same of a file that is written in pieces, one after the other, by `work`. */
export async function writeAtomically(path: string, work: (write: (bytes: Uint8Array) => Promise<void>) => Promise<void>): Promise<void> {
  try {
    const file = await writeAside(path);
    try {
      await work((bytes) => file.write(bytes));
      await file.commit();
    } catch (error) {
      await file.abort();
      throw error;
    }
  } catch (error) {
    throw fileError(error, path, 'write');
  }
}

/** Says before long work, not after it, if its result cannot be written. @throws InputError */
export async function checkWritable(path: string): Promise<void> {
  try {
    await (await writeAside(path)).abort();
  } catch (error) {
    throw fileError(error, path, 'write');
  }
}

/**
 * The lines of a text file, plain or gzipped (told by its first bytes), without line ends, in constant memory.
 * @throws InputError if the file cannot be read, its gzip stream is damaged, or, behind the lines before it, for the first one that is no UTF-8
 */
export function readLines(path: string, longLines?: LongLines, onNotice?: (line: string) => void): AsyncGenerator<string> {
  return linesOf(readBlocks(path), path, longLines, onNotice);
}

/** The bytes of a text file, plain or gzipped (told by its first bytes). @throws InputError if it cannot be read or its gzip stream is damaged */
export function readTextBlocks(path: string): AsyncGenerator<Uint8Array> {
  return textBlocks(readBlocks(path), path);
}

/** As {@link readLines}, of any stream of bytes; `source` names it in messages. `onNotice` is told of the first line that comes in pieces or cut. */
export async function* linesOf(
  blocks: AsyncIterable<Uint8Array>,
  source: string,
  longLines: LongLines = 'pieces',
  onNotice?: (line: string) => void,
): AsyncGenerator<string> {
  let rest = '';
  let number = 0;
  /** `rest` goes on with a line of which a piece was handed out. */
  let continued = false;
  let told = false;
  /** The pieces of what is longer than a line may be, and how much of it is left. `line`: its number. */
  const long = function* (text: string, line: number): Generator<string, string> {
    let left = text;
    for (; left.length > maximumLineLength; continued = true) {
      if (longLines === 'refuse') throw tooLong(source, line);
      if (!told) onNotice?.(`${source}, line ${line}: has more than ${maximumLineLength} characters: ${handling[longLines]}`);
      told = true;
      const cut = cutBefore(left);
      if (!continued || longLines === 'pieces') yield left.slice(0, cut);
      left = left.slice(cut);
    }
    return left;
  };
  const whole = function* (end: string): Generator<string> {
    number++;
    const line = yield* long(end.endsWith('\r') ? end.slice(0, -1) : end, number);
    if (!continued || longLines === 'pieces') yield line;
    continued = false;
  };
  for await (const { text, invalid } of decodeUtf8(textBlocks(blocks, source))) {
    const lines = (rest + text).split('\n');
    rest = lines.pop() as string;
    for (const line of lines) yield* whole(line);
    rest = yield* long(rest, number + 1);
    if (invalid !== undefined) throw notUtf8(source, number + 1, invalid);
  }
  if (rest) yield* whole(rest);
}

const handling = { pieces: 'it is read in pieces, expected a paragraph a line', cut: 'the rest is left out' };

const tooLong = (source: string, line: number) =>
  new InputError(`${source}, line ${line}: has more than ${maximumLineLength} characters, expected at most as many`);

function cutBefore(line: string): number {
  const space = line.lastIndexOf(' ', maximumLineLength);
  if (space > 0) return space;
  // Not between the halves of a surrogate pair.
  const unit = line.charCodeAt(maximumLineLength);
  return unit >= 0xdc00 && unit < 0xe000 ? maximumLineLength - 1 : maximumLineLength;
}

function notUtf8(source: string, line: number, byte: number): InputError {
  // The mark of UTF-16, or a byte as Latin 1 has it.
  const encoding = line === 1 && byte >= 0xfe ? 'UTF-16' : 'ISO-8859-1';
  return new InputError(
    `${source}, line ${line}: is not UTF-8 text (byte 0x${byte.toString(16)}), plain or gzipped; if it is ${encoding}, convert it: iconv -f ${encoding} -t UTF-8 OLD > NEW`,
  );
}

async function* textBlocks(blocks: AsyncIterable<Uint8Array>, source: string): AsyncGenerator<Uint8Array> {
  try {
    const iterator = blocks[Symbol.asyncIterator]();
    const { value, done } = await iterator.next();
    if (done) return;
    const all = prepend(value, iterator);
    if (value[0] !== 0x1f || value[1] !== 0x8b) yield* all;
    else yield* gunzip(all);
  } catch (error) {
    const code = errorCode(error);
    if (code?.startsWith('Z_')) throw new InputError(`${source}: the gzip stream is damaged or cut short (${(error as Error).message})`);
    throw fileError(error, source, 'read');
  }
}

async function* prepend(first: Uint8Array, rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield first;
    for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
  } finally {
    await rest.return?.();
  }
}

/** Which of the paths are files of a folder. */
export async function filesAmong(folder: string, paths: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const path of paths) if ((await kindOf(joinPath(folder, path))) === 'file') found.push(path);
  return found;
}

/** Copies files of a model's folder as they are. */
export async function copyFiles(from: string, to: string, paths: readonly string[]): Promise<void> {
  for (const path of paths) await writeFileAtomic(joinPath(to, path), await readBytes(joinPath(from, path), maximumCopiedBytes));
}
