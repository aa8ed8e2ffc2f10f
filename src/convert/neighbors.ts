/** Whether texts have the same neighbors by the vectors of two models: what a search would notice of a conversion. */
import type { Device } from '../backend/device.ts';
import { InputError } from '../errors.ts';
import { readLines } from '../io/files.ts';
import { CounterRandom, randomStream } from '../training/random.ts';

/**
 * `count` lines of a file that are not blank, each as likely as any other, by the seed; in the order in which they stand. All of them if
 * there are fewer. @throws InputError if it cannot be read
 */
export async function sampleLines(path: string, count: number, seed: number): Promise<string[]> {
  const sample: { line: string; index: number }[] = [];
  const random = new CounterRandom(seed, randomStream.sample, 0);
  let seen = 0;
  for await (const line of readLines(path)) {
    if (line.trim() === '') continue;
    const index = seen++;
    if (index < count) sample.push({ line, index });
    else {
      const place = random.below(seen);
      if (place < count) sample[place] = { line, index };
    }
  }
  return sample.sort((a, b) => a.index - b.index).map(({ line }) => line);
}

/**
 * The mean over the rows of how many of a row's `k` nearest others (by the product of vectors [rows, width] of length 1) by `own` are among
 * its `k` nearest by `reference`, over k: recall@k. 1: every row has the same neighbors.
 * @throws InputError if there are not more than k rows
 */
export async function recallOfNeighbors(
  device: Device,
  reference: Float32Array,
  own: Float32Array,
  options: { width: number; k: number },
): Promise<number> {
  const { k } = options;
  const [theirs, ours] = [await nearest(device, reference, options), await nearest(device, own, options)];
  const rows = theirs.length / k;
  let shared = 0;
  for (let row = 0; row < rows; row++) {
    const wanted = new Set(theirs.subarray(row * k, (row + 1) * k));
    for (const other of ours.subarray(row * k, (row + 1) * k)) if (wanted.has(other)) shared++;
  }
  return shared / theirs.length;
}

/** Rows whose products with all others are in memory at once. */
const rowsAtOnce = 256;

/** `[rows, k]`: each row's nearest others, nearest first; of equals the first. */
async function nearest(device: Device, vectors: Float32Array, { width, k }: { width: number; k: number }): Promise<Int32Array> {
  const rows = vectors.length / width;
  if (rows <= k) throw new InputError(`${rows} texts, expected more than ${k}: each has ${k} neighbors`);
  using all = device.tensor('vectors', [rows, width], 'f32', vectors);
  const result = new Int32Array(rows * k);
  for (let first = 0; first < rows; first += rowsAtOnce) {
    const count = Math.min(rowsAtOnce, rows - first);
    using products = device.tensor('products', [count, rows]);
    device.linear({ input: all.view([count, width], first * width), weight: all, output: products });
    const values = await device.read(products);
    for (let row = 0; row < count; row++) {
      const own = values.subarray(row * rows, (row + 1) * rows);
      own[first + row] = Number.NEGATIVE_INFINITY; // itself
      result.set(largest(own, k), (first + row) * k);
    }
  }
  return result;
}

function largest(values: Float32Array, k: number): number[] {
  const best: number[] = [];
  for (let i = 0; i < values.length; i++) {
    if (best.length === k && values[i] <= values[best[k - 1]]) continue;
    let at = best.length === k ? k - 1 : best.length;
    while (at > 0 && values[best[at - 1]] < values[i]) {
      best[at] = best[at - 1];
      at--;
    }
    best[at] = i;
  }
  return best;
}
