/** Vectors of i8 in a file, and beside it the ranges without which they mean nothing. */
import type { FileHandle } from 'node:fs/promises';
import { InputError } from '../errors.ts';
import { readBytes, writeAtomically, writeFileAtomic } from '../io/files.ts';
import { npyHeader, npyHeaderBytes, parseNpy } from '../io/npy.ts';
import { type EmbeddingRanges, emptyRanges, toI8, widen } from '../pipelines/quantization.ts';

/** The file of the ranges of a .npy file of i8: [2, width] in float32, the least values and the largest, as `quantize_embeddings` takes them. */
export const rangesPath = (vectors: string) => vectors.replace(/\.npy$/, '.ranges.npy');

const blockBytes = 2 ** 22;

/** Reads the ranges of a file of vectors. @throws InputError if they are not there or of another width */
export async function readRanges(vectors: string, width: number): Promise<EmbeddingRanges> {
  const path = rangesPath(vectors);
  const { rows, columns, values } = parseNpy(await readBytes(path), path);
  if (rows !== 2 || columns !== width || !(values instanceof Float32Array))
    throw new InputError(
      `${path}: is [${rows}, ${columns}], expected the least and the largest of each dimension in float32, [2, ${width}]`,
    );
  return { least: values.subarray(0, width), largest: values.subarray(width) };
}

/** Makes of a file's rows in float32, behind its header, the .npy file `to` in i8, and its ranges beside it. */
export async function quantizeRows(from: FileHandle, { rows, width }: { rows: number; width: number }, to: string): Promise<void> {
  const ranges = emptyRanges(width);
  for await (const vectors of blocksOf(from, rows, width)) for (const vector of vectors) widen(ranges, vector);
  const header = npyHeader(2, width);
  const both = new Uint8Array(header.length + 8 * width);
  both.set(header);
  both.set(new Uint8Array(ranges.least.buffer), header.length);
  both.set(new Uint8Array(ranges.largest.buffer), header.length + 4 * width);
  await writeFileAtomic(rangesPath(to), both);
  const quantize = toI8(ranges);
  await writeAtomically(to, async (write) => {
    await write(npyHeader(rows, width, '|i1'));
    for await (const vectors of blocksOf(from, rows, width)) {
      const block = new Uint8Array(vectors.length * width);
      for (const [row, vector] of vectors.entries()) block.set(new Uint8Array(quantize(vector).buffer), row * width);
      await write(block);
    }
  });
}

/** Some rows at a time. */
async function* blocksOf(file: FileHandle, rows: number, width: number): AsyncGenerator<Float32Array[]> {
  const most = Math.max(1, Math.floor(blockBytes / (4 * width)));
  for (let first = 0; first < rows; first += most) {
    const count = Math.min(most, rows - first);
    const block = new Float32Array(count * width);
    const bytes = new Uint8Array(block.buffer);
    for (let done = 0; done < bytes.length; ) {
      const { bytesRead } = await file.read(bytes, done, bytes.length - done, npyHeaderBytes + 4 * width * first + done);
      if (bytesRead === 0) throw new InputError(`the part of the vectors became shorter while it was read`);
      done += bytesRead;
    }
    yield Array.from({ length: count }, (_, row) => block.subarray(row * width, (row + 1) * width));
  }
}
