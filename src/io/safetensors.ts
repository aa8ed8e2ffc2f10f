/**
 * The safetensors file format: 8 bytes with the length of a JSON header, the header ({ name: { dtype, shape, data_offsets } }), then
 * the tensors' little-endian values end to end. Files are not trusted: nothing is allocated or read before it was checked.
 */
import { openFile, type RandomAccessFile } from '#platform';
import { InputError, quoted } from '../errors.ts';
import { fileError, parseJson } from './files.ts';
import { fromBfloat16, halfToFloat } from './half_floats.ts';
import { isLfsPointer, lfsError } from './json.ts';

/** The array that holds the stored bits of each type. */
const arrayTypes = {
  F64: Float64Array,
  I64: BigInt64Array,
  U64: BigUint64Array,
  F32: Float32Array,
  I32: Int32Array,
  U32: Uint32Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  I16: Int16Array,
  U16: Uint16Array,
  I8: Int8Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
} as const;
export type SafetensorsType = keyof typeof arrayTypes;
export const bytesPerValue = (dtype: SafetensorsType) => arrayTypes[dtype].BYTES_PER_ELEMENT;

export interface TensorInfo {
  readonly dtype: SafetensorsType;
  readonly shape: readonly number[];
  /** Where its values begin and end, in bytes from the start of all values. */
  readonly start: number;
  readonly end: number;
}

/** The format's own limit. */
const maximumHeaderBytes = 100_000_000;
/** Some 40,000 tensors: a hundred times as many as a BERT has. */
const headerExtent = 1_000_000;

/** An open safetensors file. Tensors are read when asked for, each on its own. Close it after use (`await using` works). */
export class SafetensorsFile {
  constructor(
    private readonly file: RandomAccessFile,
    private readonly entries: ReadonlyMap<string, TensorInfo>,
    private readonly dataStart: number,
    /** The header's `__metadata__`. */
    readonly metadata: Readonly<Record<string, string>>,
  ) {}

  /** The file's path. */
  get source(): string {
    return this.file.name;
  }

  /** Names in the order in which the values lie in the file. */
  get names(): string[] {
    return [...this.entries.keys()];
  }

  has(name: string): boolean {
    return this.entries.has(name);
  }

  /** Throws InputError if there is no such tensor. */
  info(name: string): TensorInfo {
    return this.entry(name);
  }

  /** The values as float32: exact for F32, F16 and BF16, rounded for F64 and large integers. Throws InputError if there is no such tensor. */
  async read(name: string): Promise<Float32Array<ArrayBuffer>> {
    return toFloats(await this.readRaw(name), this.entry(name).dtype);
  }

  /** The values of an integer or boolean tensor. Throws InputError if the dtype is another or a value leaves the range of int32. */
  async readIntegers(name: string): Promise<Int32Array<ArrayBuffer>> {
    const { dtype } = this.entry(name);
    if (/F/.test(dtype)) throw new InputError(`${this.source}: tensor '${name}' is ${dtype}, expected integers`);
    const values = view(await this.readRaw(name), dtype);
    const result = new Int32Array(values.length);
    for (let i = 0; i < values.length; i++) {
      const value = Number(values[i]);
      if (value !== (value | 0)) throw new InputError(`${this.source}: tensor '${name}' holds ${value}, which leaves the range of int32`);
      result[i] = value;
    }
    return result;
  }

  /** The bytes as they lie in the file. */
  async readRaw(name: string): Promise<Uint8Array<ArrayBuffer>> {
    const { start, end } = this.entry(name);
    return this.readBytes(start, end - start);
  }

  /** Bytes of the values, which may be several tensors', from `start` on (see {@link TensorInfo}); in `into` if given and the platform can. */
  readBytes(start: number, length: number, into?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
    return this.file.read(this.dataStart + start, length, into);
  }

  close(): Promise<void> {
    return this.file.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  private entry(name: string): TensorInfo {
    const entry = this.entries.get(name);
    if (!entry) throw new InputError(`${this.source}: has no tensor '${name}'`);
    return entry;
  }
}

/**
 * Opens a safetensors file: reads and checks the header, no values yet.
 * @throws InputError naming the file (and tensor) for whatever is wrong with it: missing, cut short, not this format, offsets or sizes that do not fit.
 */
export async function readSafetensors(source: string | RandomAccessFile): Promise<SafetensorsFile> {
  const file =
    typeof source === 'string' ? await openFile(source).catch((error) => Promise.reject(fileError(error, source, 'read'))) : source;
  try {
    return await readHeader(file);
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function readHeader(file: RandomAccessFile): Promise<SafetensorsFile> {
  const fail = (message: string) => new InputError(`${file.name}: ${message}`);
  if (file.size < 8) throw fail(`${file.size} bytes is too short for a safetensors file; it may have been cut short`);
  const prefix = await file.read(0, 8);
  if (isLfsPointer(prefix)) throw lfsError(file.name);
  const headerBytes = Number(new DataView(prefix.buffer).getBigUint64(0, true));
  if (headerBytes > maximumHeaderBytes)
    throw fail(
      `is not a safetensors file: its first 8 bytes give a header of ${headerBytes} bytes, expected at most ${maximumHeaderBytes}`,
    );
  if (headerBytes + 8 > file.size)
    throw fail(`${file.size} bytes is too short for its header of ${headerBytes} bytes; it may have been cut short`);
  const bytes = await file.read(8, headerBytes);
  const header = parseJson(bytes, `${file.name}: safetensors header`, headerExtent);
  if (!isRecord(header)) throw fail('the safetensors header is not an object');
  const duplicate = duplicateKey(new TextDecoder().decode(bytes));
  if (duplicate !== undefined) throw fail(`the safetensors header has the key '${duplicate}' twice`);

  const metadata: Record<string, string> = {};
  const entries: [string, TensorInfo][] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') {
      if (!isRecord(value)) throw fail("'__metadata__' is not an object");
      for (const [key, text] of Object.entries(value)) if (typeof text === 'string') metadata[key] = text;
    } else entries.push([name, parseEntry(value, `tensor '${name}'`, fail)]);
  }

  entries.sort(([, a], [, b]) => a.start - b.start || a.end - b.end);
  let position = 0;
  for (const [name, { start, end }] of entries) {
    if (start !== position)
      throw fail(`tensor '${name}' starts at byte ${start} of the values, expected ${position}: tensors must lie end to end`);
    position = end;
  }
  const available = file.size - 8 - headerBytes;
  if (position !== available) {
    throw fail(
      `holds ${available} bytes of values, but its header describes ${position}${available < position ? '; it may have been cut short' : ''}`,
    );
  }
  return new SafetensorsFile(file, new Map(entries), 8 + headerBytes, metadata);
}

function parseEntry(value: unknown, what: string, fail: (message: string) => InputError): TensorInfo {
  if (!isRecord(value)) throw fail(`${what} is not described by an object`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== 'string' || !Object.hasOwn(arrayTypes, dtype)) {
    throw fail(`${what} has dtype ${quoted(dtype)}, expected one of ${Object.keys(arrayTypes).join(', ')}`);
  }
  if (!Array.isArray(shape) || !shape.every(isCount)) throw fail(`${what} has shape ${quoted(shape)}, expected a list of sizes`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount) || offsets[0] > offsets[1]) {
    throw fail(`${what} has data_offsets ${quoted(offsets)}, expected [start, end]`);
  }
  const [start, end] = offsets as [number, number];
  const bytes = shape.reduce((product, extent) => product * extent, bytesPerValue(dtype as SafetensorsType));
  if (bytes !== end - start) throw fail(`${what} ${dtype} ${quoted(shape)} takes ${bytes} bytes, but its data_offsets span ${end - start}`);
  return { dtype: dtype as SafetensorsType, shape: shape as number[], start, end };
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/**
 * The first key that stands twice in one of the objects of a valid JSON text; JSON.parse silently keeps the last. Character by character: a
 * regular expression's stack does not hold the longest strings that a header may have.
 */
function duplicateKey(json: string): string | undefined {
  const open: (Set<string> | undefined)[] = [];
  let [start, end] = [0, 0];
  for (let at = 0; at < json.length; at++) {
    const character = json[at];
    if (character === '{') open.push(new Set());
    else if (character === '[') open.push(undefined);
    else if (character === '}' || character === ']') open.pop();
    else if (character === '"') {
      start = at++;
      while (json[at] !== '"') at += json[at] === '\\' ? 2 : 1;
      end = at + 1;
    } else if (character === ':') {
      const key = JSON.parse(json.slice(start, end)) as string;
      const keys = open.at(-1) as Set<string>;
      if (keys.has(key)) return key;
      keys.add(key);
    }
  }
  return undefined;
}

function view(bytes: Uint8Array<ArrayBuffer>, dtype: SafetensorsType): ArrayLike<number | bigint> {
  const ArrayType = arrayTypes[dtype] as new (buffer: ArrayBuffer) => ArrayLike<number | bigint>;
  return new ArrayType(bytes.buffer);
}

function toFloats(bytes: Uint8Array<ArrayBuffer>, dtype: SafetensorsType): Float32Array<ArrayBuffer> {
  if (dtype === 'BF16') return fromBfloat16(new Uint16Array(bytes.buffer));
  if (dtype === 'F32') return new Float32Array(bytes.buffer);
  const values = view(bytes, dtype);
  const result = new Float32Array(values.length);
  if (dtype === 'F16') for (let i = 0; i < result.length; i++) result[i] = halfToFloat(values[i] as number);
  else for (let i = 0; i < result.length; i++) result[i] = Number(values[i]);
  return result;
}
