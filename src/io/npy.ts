/** NumPy's .npy files, as far as matrices of float32 and int8 go: a header of one line, then the rows. */
import { InputError } from '../errors.ts';

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
  const refuse = (what: string) => new InputError(`${source}: ${what}, expected a .npy file with a matrix of float32 or int8`);
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
  const array: Float32ArrayConstructor | Int8ArrayConstructor = types[type as NpyType];
  const [rows, columns] = [Number(shape[1]), Number(shape[2])];
  if (start + length + array.BYTES_PER_ELEMENT * rows * columns !== bytes.length)
    throw refuse(`has ${bytes.length - start - length} bytes of values for [${rows}, ${columns}]`);
  const stored = bytes.subarray(start + length);
  const aligned = stored.byteOffset % array.BYTES_PER_ELEMENT === 0 ? stored : new Uint8Array(stored);
  return { rows, columns, values: new array(aligned.buffer as ArrayBuffer, aligned.byteOffset, rows * columns) };
}
