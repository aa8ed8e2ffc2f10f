import type { Floats, Integers } from '../operations/operation.ts';

export type { Floats, Integers };

/** Positions of each value in `values`, ascending; values in the order of their first position. Scatters add up a row at a time by it. */
export function positionsByValue(values: Integers): Map<number, number[]> {
  const positions = new Map<number, number[]>();
  for (let t = 0; t < values.length; t++) {
    const known = positions.get(values[t]);
    if (known) known.push(t);
    else positions.set(values[t], [t]);
  }
  return positions;
}

/** sum over i of a[aStart + i] b[bStart + i], i < count. */
export function dot(a: Floats, aStart: number, b: Floats, bStart: number, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += a[aStart + i] * b[bStart + i];
  return sum;
}

/** sums[i] += scale values[start + i], i < count. */
export function addScaled(sums: Float64Array, scale: number, values: Floats, start: number, count: number): void {
  for (let i = 0; i < count; i++) sums[i] += scale * values[start + i];
}
