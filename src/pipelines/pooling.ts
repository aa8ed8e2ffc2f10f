/** How the vectors of a text's tokens become one, by the names that sentence-transformers has. */
import type { PoolKind } from '../backend/operations/pool.ts';
import type { Tensor } from '../backend/tensor.ts';
import { InputError, quoted } from '../errors.ts';
import type { TextBatch } from '../models/text_batches.ts';
import type { Context } from '../nn/parameter.ts';

/**
 * The mean of the tokens' vectors; the first token's; the largest of each feature; their sum by the root of their number; their mean by weights
 * 1, 2, 3, ...; the last token's.
 */
export const poolings = ['mean', 'cls', 'max', 'mean_sqrt_len_tokens', 'weightedmean', 'lasttoken'] as const;
export type Pooling = (typeof poolings)[number];

/** One way, or several whose vectors are put side by side. */
export type Poolings = Pooling | readonly Pooling[];

const kinds: Partial<Record<Pooling, PoolKind>> = { mean: 'mean', cls: 'first', max: 'max' };

/** What the operation `pool` calls a way of pooling, or the one nearest to it that it knows. */
export function poolKindOf(pooling: Poolings): PoolKind {
  return [pooling].flat().map((one) => kinds[one])[0] ?? 'mean';
}

/** What transformers.js calls some of them. */
const poolingNames = { first_token: 'cls', last_token: 'lasttoken', eos: 'lasttoken' } as const satisfies Record<string, Pooling>;
export type PoolingName = keyof typeof poolingNames;

/** The pooling by its name here. @throws InputError if it is none there is */
export function poolingOf(pooling: 'none' | Poolings | PoolingName): 'none' | Poolings {
  if (typeof pooling === 'string' && Object.hasOwn(poolingNames, pooling)) return poolingNames[pooling as PoolingName];
  const wrong = [pooling].flat().find((one) => one !== 'none' && !poolings.includes(one as Pooling));
  const known = pooling as 'none' | Poolings;
  if (wrong === undefined && (known === 'none' || (known.length > 0 && !known.includes('none' as never)))) return known;
  throw new InputError(`pooling: got ${quoted(wrong ?? pooling)}, expected one of none, ${poolings.join(', ')}`);
}

/**
 * The pooled vector of each text of a batch from hidden [batch length, width], the ways' vectors one after the other. `skipped`: tokens at the
 * beginning of every text that do not count, a prompt's say.
 */
export async function pool(
  context: Context,
  hidden: Tensor,
  batch: TextBatch,
  pooling: Poolings,
  skipped: number,
): Promise<Float32Array[]> {
  const { batch: rows, length, mask } = batch;
  const width = hidden.size / (rows * length);
  const ways = [pooling].flat();
  const counts = Array.from({ length: rows }, (_, row) => mask.subarray(row * length, (row + 1) * length).reduce((a, b) => a + b, 0));
  const pooled = counts.map(() => new Float32Array(ways.length * width));
  for (const [index, way] of ways.entries()) {
    const values = await rowsPooled(context, { hidden, batch, width, counts, skipped }, way);
    pooled.forEach((vector, row) => {
      vector.set(values.subarray(row * width, (row + 1) * width), index * width);
    });
  }
  return pooled;
}

interface Pooled {
  hidden: Tensor;
  batch: TextBatch;
  width: number;
  /** Tokens of each text. */
  counts: readonly number[];
  skipped: number;
}

/** [texts, width]. */
async function rowsPooled(context: Context, of: Pooled, way: Pooling): Promise<Float32Array> {
  const { hidden, batch, width, counts, skipped } = of;
  const { device, arena } = context;
  const { batch: rows, length } = batch;
  if (way === 'weightedmean') return weightedMeans(await device.read(hidden), of, length);
  const output = arena.tensor(`pooled by ${way}`, [rows, width]);
  if (way === 'cls' || way === 'lasttoken') {
    // The first token also of a text that is nothing but what is skipped, as sentence-transformers has it.
    const place = (count: number) => (way === 'lasttoken' ? count - 1 : skipped < count ? skipped : 0);
    const indices = arena.tensor(`pooled by ${way}, tokens`, [rows], 'i32');
    device.write(
      indices,
      Int32Array.from(counts, (count, row) => row * length + place(count)),
    );
    device.gather({ table: hidden, indices, output });
    return await device.read(output);
  }
  let mask: Tensor | undefined;
  if (batch.attentionMask || skipped > 0) {
    mask = arena.tensor(`pooled by ${way}, mask`, [rows, length], 'i32');
    const counted = batch.mask.slice();
    counts.forEach((_, row) => {
      counted.fill(0, row * length, row * length + Math.min(skipped, length));
    });
    device.write(mask, counted);
  }
  device.pool({ input: hidden, batch: rows, length, kind: way === 'max' ? 'max' : 'mean', output, mask });
  const values = await device.read(output);
  if (way !== 'mean_sqrt_len_tokens') return values;
  return values.map((value, i) => value * Math.sqrt(Math.max(counts[Math.floor(i / width)] - skipped, 0)));
}

function weightedMeans(states: Float32Array, { counts, width, skipped }: Pooled, length: number): Float32Array {
  const means = new Float32Array(counts.length * width);
  counts.forEach((count, row) => {
    const sums = new Float64Array(width);
    let weights = 0;
    for (let token = skipped; token < count; token++) {
      const start = (row * length + token) * width;
      weights += token + 1;
      for (let i = 0; i < width; i++) sums[i] += (token + 1) * states[start + i];
    }
    means.set(
      sums.map((sum) => sum / (weights || 1)),
      row * width,
    );
  });
  return means;
}
