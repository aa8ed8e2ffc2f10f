import { addScaled, dot, type Floats, type Integers, positionsByValue } from './arrays.ts';

/** Where row indices[t] of the table begins. Throws the late error of an index outside of it. */
function rowStart(indices: Integers, t: number, count: number, width: number): number {
  const index = indices[t];
  if (index < 0 || index >= count) throw new RangeError(`embedding: index ${index} of row ${t} is not in a table of ${count} rows`);
  return index * width;
}

/** output[t] (+)= scale table[indices[t]]. */
export function embedding(
  table: Floats,
  indices: Integers,
  output: Floats,
  scale: Floats | undefined,
  rows: number,
  width: number,
  count: number,
  accumulate: number,
): void {
  const factor = scale ? scale[0] : 1;
  for (let t = 0; t < rows; t++) {
    const from = rowStart(indices, t, count, width);
    const to = t * width;
    for (let i = 0; i < width; i++) output[to + i] = factor * table[from + i] + (accumulate ? output[to + i] : 0);
  }
}

/** gradTable[indices[t]] += scale gradOutput[t], except where the index is skipIndex; flags the rows. */
export function embeddingBackward(
  indices: Integers,
  gradOutput: Floats,
  gradTable: Floats,
  touched: Integers | undefined,
  scale: Floats | undefined,
  _rows: number,
  width: number,
  count: number,
  skipIndex: number,
): void {
  const factor = scale ? scale[0] : 1;
  const sums = new Float64Array(width);
  for (const [index, positions] of positionsByValue(indices)) {
    if (index === skipIndex) continue;
    const to = rowStart(indices, positions[0], count, width);
    sums.fill(0);
    for (const t of positions) addScaled(sums, factor, gradOutput, t * width, width);
    for (let i = 0; i < width; i++) gradTable[to + i] += sums[i];
    if (touched) touched[index] = 1;
  }
}

/** gradScale += sum over t of gradOutput[t] . table[indices[t]]. */
export function embeddingScaleBackward(
  table: Floats,
  indices: Integers,
  gradOutput: Floats,
  gradScale: Floats,
  rows: number,
  width: number,
  count: number,
): void {
  let sum = 0;
  for (let t = 0; t < rows; t++) {
    sum += dot(gradOutput, t * width, table, rowStart(indices, t, count, width), width);
  }
  gradScale[0] += sum;
}
