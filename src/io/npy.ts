/** NumPy's .npy files, as far as matrices of float32 and int8 go: a header of one line, then the rows. */
import { openFile } from '#platform';
import { InputError } from '../errors.ts';
import { fileError } from './files.ts';

const magic = '\x93NUMPY\x01\x00';
/** Enough for any shape, and the same for all: rows can be added before their number is known. */
export const npyHeaderBytes = 128;

/** By what NumPy calls them. */
const types = { '<f4': Float32Array, '|i1': Int8Array } as const;
export type NpyType = keyof typeof types;

/** A matrix as a .npy file holds it. */
export interface NpyMatrix {
  rows: number;
  columns: number;
  /** [rows, columns]. */
  values: Float32Array | Int8Array;
}

/** The header of a matrix of `rows` by `columns` numbers of a type; float32, little-endian, by default. */
export function npyHeader(rows: number, columns: number, type: NpyType = '<f4'): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(npyHeaderBytes).fill(0x20);
  const text = `{'descr': '${type}', 'fortran_order': False, 'shape': (${rows}, ${columns}), }`;
  bytes.set(Array.from(magic, (character) => character.charCodeAt(0)));
  new DataView(bytes.buffer).setUint16(magic.length, npyHeaderBytes - magic.length - 2, true);
  bytes.set(new TextEncoder().encode(text), magic.length + 2);
  bytes[npyHeaderBytes - 1] = 0x0a;
  return bytes;
}

/**
 * A matrix of float32 or int8 from a file's bytes, of which `values` are a view where they lie aligned; `source` names the file.
 * @throws InputError if it is nothing of the kind
 */
export function parseNpy(bytes: Uint8Array, source: string): NpyMatrix {
  const { start, rows, columns, type } = parseHeader(bytes, source);
  const array: Float32ArrayConstructor | Int8ArrayConstructor = types[type];
  if (start + array.BYTES_PER_ELEMENT * rows * columns !== bytes.length)
    throw refusal(source, `has ${bytes.length - start} bytes of values for [${rows}, ${columns}]`);
  const stored = bytes.subarray(start);
  const aligned = stored.byteOffset % array.BYTES_PER_ELEMENT === 0 ? stored : new Uint8Array(stored);
  return { rows, columns, values: new array(aligned.buffer as ArrayBuffer, aligned.byteOffset, rows * columns) };
}

const refusal = (source: string, what: string) =>
  new InputError(`${source}: ${what}, expected a .npy file with a matrix of float32 or int8`);

/** What the header says, and where the values start. `bytes`: the file's first ones. */
function parseHeader(bytes: Uint8Array, source: string): { start: number; rows: number; columns: number; type: NpyType } {
  const refuse = (what: string) => refusal(source, what);
  if (bytes.length < 10 || String.fromCharCode(...bytes.subarray(0, 6)) !== magic.slice(0, 6)) throw refuse('has no .npy header');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = bytes[6];
  const [start, length] =
    version === 1 ? [10, view.getUint16(8, true)] : bytes.length >= 12 ? [12, view.getUint32(8, true)] : [0, Number.NaN];
  if (!(start + length <= bytes.length)) throw refuse('ends within its header');
  const header = new TextDecoder('latin1').decode(bytes.subarray(start, start + length));
  const type = /'descr': *'([^']*)'/.exec(header)?.[1] ?? '';
  const shape = /'shape': *\((\d+), *(\d+),? *\)/.exec(header);
  if (!Object.hasOwn(types, type) || !/'fortran_order': *False/.test(header) || !shape)
    throw refuse(`holds ${header.trim().slice(0, 100)}`);
  return { start: start + length, rows: Number(shape[1]), columns: Number(shape[2]), type: type as NpyType };
}

/** Bytes that are read at a time. */
const blockBytes = 2 ** 22;

/** A file's rows of float32, some at a time, however large it is. @throws InputError if it is nothing of the kind */
export async function npyRows(path: string): Promise<{ rows: number; columns: number; values(): AsyncGenerator<Float32Array> }> {
  const file = await openFile(path).catch((error) => Promise.reject(fileError(error, path, 'read')));
  try {
    const { start, rows, columns, type } = parseHeader(await file.read(0, Math.min(file.size, 4096)), path);
    if (type !== '<f4') throw refusal(path, 'holds int8, and float32 is read here');
    if (start + 4 * rows * columns !== file.size) throw refusal(path, `has ${file.size - start} bytes of values for [${rows}, ${columns}]`);
    return { rows, columns, values: () => rowsOf(path, start, rows, columns) };
  } finally {
    await file.close();
  }
}

async function* rowsOf(path: string, start: number, rows: number, columns: number): AsyncGenerator<Float32Array> {
  const file = await openFile(path);
  try {
    const most = Math.max(1, Math.floor(blockBytes / (4 * columns)));
    for (let first = 0; first < rows; first += most) {
      const count = Math.min(most, rows - first);
      const bytes = await file.read(start + 4 * first * columns, 4 * count * columns);
      const values = new Float32Array(Uint8Array.from(bytes).buffer);
      for (let row = 0; row < count; row++) yield values.subarray(row * columns, (row + 1) * columns);
    }
  } finally {
    await file.close();
  }
}
