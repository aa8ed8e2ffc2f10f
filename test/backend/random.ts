import { fmix32 } from '../../src/backend/dropout.ts';

/** Seeded random values for tests. */
export class Random {
  private counter = 0;

  constructor(private readonly seed: number) {}

  /** In [0, 1). */
  uniform(): number {
    return fmix32(fmix32(this.counter++) ^ fmix32(this.seed)) / 2 ** 32;
  }

  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }

  /** In [0, count). */
  integer(count: number): number {
    return Math.floor(this.uniform() * count);
  }

  normals(count: number, standardDeviation = 1): Float32Array {
    return Float32Array.from({ length: count }, () => standardDeviation * this.normal());
  }

  integers(length: number, count: number): Int32Array {
    return Int32Array.from({ length }, () => this.integer(count));
  }
}
