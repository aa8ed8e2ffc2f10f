/** Writing safetensors files; safetensors.ts says what they are. */
import { openFile, startHash } from '#platform';
import { writeAtomically } from './files.ts';
import { toBfloat16, toFloat16 } from './half_floats.ts';
import { bytesPerValue, readSafetensors } from './safetensors.ts';

type Values = Float32Array | Float64Array | Int32Array | Uint8Array;

/** A tensor to be written. BF16 and F16 take float32 values and round them to nearest even. */
export interface TensorToWrite {
  readonly name: string;
  readonly dtype: 'F32' | 'BF16' | 'F16' | 'F64' | 'I32' | 'U8';
  readonly shape: readonly number[];
  /** A function is called when the tensor's turn comes, so that only one tensor's values are in memory at a time. */
  readonly values: Values | (() => Values | Promise<Values>);
}

/** The last tensor of a file that was written with one: SHA-256 of all bytes before its own. */
const checksumName = 'checksum';

/**
 * Whether what lies in a file is what was written; undefined if it has no checksum.
 * @throws InputError if the file ends while it is read
 */
export async function verifyChecksum(path: string): Promise<boolean | undefined> {
  await using file = await readSafetensors(path);
  if (!file.has(checksumName)) return undefined;
  const expected = await file.readRaw(checksumName);
  const whole = await openFile(path);
  try {
    const hash = startHash();
    const end = whole.size - expected.length;
    for (let at = 0; at < end; at += 2 ** 22) hash.add(await whole.read(at, Math.min(2 ** 22, end - at)));
    return `${hash.digest()}` === `${expected}`;
  } finally {
    await whole.close();
  }
}

const givenTypes = { F32: Float32Array, BF16: Float32Array, F16: Float32Array, F64: Float64Array, I32: Int32Array, U8: Uint8Array };

/**
 * Writes a safetensors file, tensor by tensor, under a temporary name that becomes `path` at the end. Tensors lie in the order given,
 * those of wider elements first, so that every one of them is aligned.
 * @param options.checksum ends the file with one, for {@link verifyChecksum}
 * @throws InputError if the file cannot be written; Error if a tensor's name comes twice or its values do not fit its dtype and shape.
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorToWrite> | AsyncIterable<TensorToWrite>,
  metadata?: Readonly<Record<string, string>>,
  options: { checksum?: boolean } = {},
): Promise<void> {
  const all: TensorToWrite[] = [];
  for await (const tensor of tensors) all.push(tensor);
  all.sort((a, b) => bytesPerValue(b.dtype) - bytesPerValue(a.dtype));
  const hash = options.checksum ? startHash() : undefined;
  if (hash) all.push({ name: checksumName, dtype: 'U8', shape: [32], values: () => hash.digest() });

  const entries = new Map<string, unknown>();
  if (metadata) entries.set('__metadata__', metadata);
  let position = 0;
  for (const { name, dtype, shape } of all) {
    if (entries.has(name) || name === '__metadata__') throw new Error(`${path}: tensor '${name}' cannot be written twice`);
    const end = position + count(shape) * bytesPerValue(dtype);
    entries.set(name, { dtype, shape, data_offsets: [position, end] });
    position = end;
  }
  // fromEntries would put names that look like numbers first; the file's order is ours.
  const fields = [...entries].map(([name, entry]) => `${JSON.stringify(name)}:${JSON.stringify(entry)}`);
  const header = new TextEncoder().encode(`{${fields.join(',')}}`);
  const start = new Uint8Array(8 + Math.ceil(header.length / 8) * 8).fill(0x20);
  new DataView(start.buffer).setBigUint64(0, BigInt(start.length - 8), true);
  start.set(header, 8);

  await writeAtomically(path, async (write) => {
    await write(start);
    hash?.add(start);
    for (const { name, dtype, shape, values: given } of all) {
      const values = typeof given === 'function' ? await given() : given;
      if (!(values instanceof givenTypes[dtype]) || values.length !== count(shape)) {
        throw new Error(`${path}: tensor '${name}' ${dtype} [${shape}] got ${values.length} values of ${values.constructor.name}`);
      }
      const stored = dtype === 'BF16' || dtype === 'F16' ? rounded(values as Float32Array, dtype, name) : values;
      const bytes = new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength);
      await write(bytes);
      if (name !== checksumName) hash?.add(bytes);
    }
  });
}

const rounded = (values: Float32Array, dtype: 'BF16' | 'F16', name: string) =>
  dtype === 'BF16' ? toBfloat16(values) : toFloat16(values, name);
const count = (shape: readonly number[]) => shape.reduce((product, extent) => product * extent, 1);
