import { fmix32 } from '../backend/dropout.ts';

/**
 * Counter-based random numbers: the n-th number of a stream depends on (seed, stream, n) alone, so whatever knows its place in the
 * run (the number of a sequence, say) draws the same numbers after a resume as it would have drawn without a stop.
 */
export class CounterRandom {
  private readonly key: number;
  private counter = 0;

  constructor(seed: number, stream: number, index: number) {
    // Indices beyond 2^32 keep their upper half: a stream of sequences may be longer.
    const upper = Math.floor(index / 2 ** 32);
    this.key = fmix32(fmix32(fmix32(fmix32(seed >>> 0) + stream) ^ (index >>> 0)) + upper);
  }

  /** An integer in [0, bound), bound at most 2^32; the bias of 32 bits over such small bounds is below 1e-5. */
  below(bound: number): number {
    return Math.floor((fmix32(fmix32(this.counter++) ^ this.key) / 2 ** 32) * bound);
  }
}

/** Streams of {@link CounterRandom}, one for each purpose, so that no two purposes share numbers. */
export const randomStream = {
  masking: 1,
  shuffling: 2,
  evaluation: 3,
  fineTuning: 4,
  texts: 5,
  distillation: 6,
  sample: 7,
  split: 8,
  forms: 9,
  sampling: 10,
} as const;

/** The values in another order, in place (Fisher-Yates). */
export function shuffled<Value>(values: Value[], random: CounterRandom): Value[] {
  for (let last = values.length - 1; last > 0; last--) {
    const other = random.below(last + 1);
    [values[last], values[other]] = [values[other], values[last]];
  }
  return values;
}
