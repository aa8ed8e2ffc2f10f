/** What tells the content of a file, or a model's folder, from another, without reading all of a large one. */
import * as v from 'valibot';
import { joinPath, kindOf, openFile, startHash } from '#platform';
import { fileError } from '../io/files.ts';
import { modelFiles, weightsIndex } from '../io/model_files.ts';
import { countSchema } from '../io/schemas.ts';

export const fingerprintSchema = v.object({
  bytes: countSchema,
  /** SHA-256, of larger files of samples: {@link samples} of {@link sampleBytes} each, evenly spread, the first and the last among them. */
  sha256: v.string(),
});
export type Fingerprint = v.InferOutput<typeof fingerprintSchema>;

const samples = 256;
const sampleBytes = 2 ** 16;

export const sameContent = (one: Fingerprint, other: Fingerprint) => one.bytes === other.bytes && one.sha256 === other.sha256;

/** Of a file; of a folder, the files of the model that it holds. @throws InputError if it cannot be read */
export async function fingerprintOf(path: string): Promise<Fingerprint> {
  const hash = startHash();
  let bytes = 0;
  try {
    const files = (await kindOf(path)) === 'folder' ? [...modelFiles, weightsIndex].map((name) => joinPath(path, name)) : [path];
    for (const file of files) if (files.length === 1 || (await kindOf(file)) === 'file') bytes += await addFile(file, hash);
  } catch (error) {
    throw fileError(error, path, 'read');
  }
  return { bytes, sha256: hexadecimal(hash.digest()) };
}

export const hexadecimal = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

async function addFile(path: string, hash: ReturnType<typeof startHash>): Promise<number> {
  const file = await openFile(path);
  try {
    const { size } = file;
    const isWhole = size <= samples * sampleBytes;
    const count = isWhole ? Math.ceil(size / sampleBytes) : samples;
    for (let i = 0; i < count; i++) {
      const start = isWhole ? i * sampleBytes : Math.floor((i * (size - sampleBytes)) / (samples - 1));
      hash.add(await file.read(start, Math.min(sampleBytes, size - start)));
    }
    return size;
  } finally {
    await file.close();
  }
}
