import { fmix32 } from '../dropout.ts';

/** What dropout multiplies element `index` by: 0, or 1 / (1 - probability). The comparison is exact. */
export function dropoutFactor(index: number, probability: number, key: number): number {
  const uniform = (fmix32(fmix32(index) ^ key) >>> 8) / 2 ** 24;
  return uniform >= probability ? 1 / (1 - probability) : 0;
}
