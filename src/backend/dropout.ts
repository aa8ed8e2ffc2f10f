import { checkArgument, kinds } from '../arguments.ts';

/** Keeps an element with probability 1 - probability and scales what is kept by 1 / (1 - probability). The element's index and `key` alone decide. */
export interface Dropout {
  probability: number;
  /** From {@link dropoutKey}. */
  key: number;
}

/** murmur3's 32-bit finalizer. */
export function fmix32(value: number): number {
  let h = value >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/**
 * The key of one dropout site at one step. Dropout is counter-based: element i is kept if
 * (fmix32(fmix32(i) ^ key) >>> 8) / 2^24 >= probability, so that backward recomputes it and a resumed run repeats it.
 */
export function dropoutKey(seed: number, step: number, site: number): number {
  for (const [name, value] of Object.entries({ seed, step, site })) checkArgument(name, value, kinds.integer);
  return fmix32(fmix32(fmix32(seed >>> 0) ^ (step >>> 0)) + site);
}
