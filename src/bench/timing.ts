import { quantile, sorted } from '../training/statistics.ts';

/** What several timings of the same work say: the median, and the quartiles as their spread. */
export interface Timing {
  median: number;
  low: number;
  high: number;
}

/** Median and quartiles of at least one value, linear between neighbors. */
export function summarize(values: readonly number[]): Timing {
  const inOrder = sorted(values);
  return { median: quantile(inOrder, 0.5), low: quantile(inOrder, 0.25), high: quantile(inOrder, 0.75) };
}

/** Milliseconds that `work` takes, the wait for what it queued included. */
export async function milliseconds(work: () => void, wait: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  work();
  await wait();
  return performance.now() - started;
}

/** Uniform values in [-range, range): quick to make, for weights and inputs whose values only need to differ. */
export function fillUniform(values: Float32Array, range: number, seed: number): Float32Array {
  let state = seed >>> 0;
  for (let i = 0; i < values.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = (state / 2 ** 31 - 1) * range;
  }
  return values;
}
