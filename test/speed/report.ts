import type { Timing } from '../../src/bench/timing.ts';

/** One case on one backend; times in nanoseconds a call. */
export interface SpeedResult extends Timing {
  device: string;
  name: string;
  operations?: number;
  bytes?: number;
}

/** What `npm run speed -- --out FILE` writes. */
export interface SpeedRun {
  machine: string;
  results: SpeedResult[];
}

/** What is measured a second time within one run differs by less; see {@link compare}. */
const smallestChange = 0.05;

export interface Comparison {
  /** The median over the other run's: 2 is twice as slow. */
  ratio: number;
  verdict: 'slower' | 'faster' | 'the same';
}

/**
 * A case against another run's: slower or faster only if the medians differ by 5 % and the middle halves of the samples (quartile to
 * quartile) do not overlap.
 */
export function compare(now: Timing, before: Timing): Comparison {
  const ratio = now.median / before.median;
  if (ratio > 1 + smallestChange && now.low > before.high) return { ratio, verdict: 'slower' };
  if (ratio < 1 / (1 + smallestChange) && now.high < before.low) return { ratio, verdict: 'faster' };
  return { ratio, verdict: 'the same' };
}

/** The result of the same case on the same backend in another run. */
export function counterpart({ device, name }: SpeedResult, { results }: SpeedRun): SpeedResult | undefined {
  return results.find((other) => other.device === device && other.name === name);
}

/** '1.23 us', the quartiles' distance from the median in per cent, the rate, and how it compares. */
export function lineOf(result: SpeedResult, before: SpeedResult | undefined): string {
  const { name, median, low, high, operations, bytes } = result;
  const spread = Math.max(high - median, median - low) / median;
  // An operation a nanosecond is 1 GFLOP/s, a byte a nanosecond 1 GB/s.
  const rate = operations ? `${(operations / median).toFixed(1)} GFLOP/s` : bytes ? `${(bytes / median).toFixed(1)} GB/s` : '';
  let line = `${name.padEnd(46)} ${duration(median).padStart(9)} +- ${(100 * spread).toFixed(0).padStart(2)} %  ${rate.padStart(14)}`;
  if (before) {
    const { ratio, verdict } = compare(result, before);
    line += `  x ${ratio.toFixed(2)}${verdict === 'the same' ? '' : ` ${verdict.toUpperCase()}`}`;
  }
  return line.trimEnd();
}

function duration(nanoseconds: number): string {
  if (nanoseconds < 1e3) return `${nanoseconds.toFixed(0)} ns`;
  return nanoseconds < 1e6 ? `${(nanoseconds / 1e3).toFixed(2)} us` : `${(nanoseconds / 1e6).toFixed(2)} ms`;
}
