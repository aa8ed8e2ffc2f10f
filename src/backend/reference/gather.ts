import type * as operations from '../operations/gather.ts';
import type { Implementation } from '../operations/operation.ts';
import { addScaled, dot, type Integers, positionsByValue } from './arrays.ts';

/** Where row indices[t] of the table begins. Throws the late error of an index outside of it. */
function rowStart(operation: string, indices: Integers, t: number, count: number, width: number): number {
  const index = indices[t];
  if (index < 0 || index >= count) throw new RangeError(`${operation}: index ${index} of row ${t} is not in a table of ${count} rows`);
  return index * width;
}

/** output[t] (+)= scale table[indices[t]]. */
export const gather: Implementation<typeof operations.gather> = ({ table, indices, output, scale }, { rows, width, count, accumulate }) => {
  const factor = scale ? scale[0] : 1;
  for (let t = 0; t < rows; t++) {
    const from = rowStart('gather', indices, t, count, width);
    const to = t * width;
    for (let i = 0; i < width; i++) output[to + i] = factor * table[from + i] + (accumulate ? output[to + i] : 0);
  }
};

/** table[indices[t]] += scale input[t], except where the index is skipIndex; flags the rows. */
export const scatterAdd: Implementation<typeof operations.scatterAdd> = (
  { indices, input, table, rowMask, scale },
  { width, count, skipIndex },
) => {
  const factor = scale ? scale[0] : 1;
  const sums = new Float64Array(width);
  for (const [index, positions] of positionsByValue(indices)) {
    if (index === skipIndex) continue;
    const to = rowStart('scatterAdd', indices, positions[0], count, width);
    sums.fill(0);
    for (const t of positions) addScaled(sums, factor, input, t * width, width);
    for (let i = 0; i < width; i++) table[to + i] += sums[i];
    if (rowMask) rowMask[index] = 1;
  }
};

/** gradScale += sum over t of gradOutput[t] . table[indices[t]]. */
export const gatherScaleBackward: Implementation<typeof operations.gatherScaleBackward> = (
  { table, indices, gradOutput, gradScale },
  { rows, width, count },
) => {
  let sum = 0;
  for (let t = 0; t < rows; t++) {
    sum += dot(gradOutput, t * width, table, rowStart('gather', indices, t, count, width), width);
  }
  gradScale[0] += sum;
};

/** table[indices[t]] = a part of input[t]. */
export const scatterRows: Implementation<typeof operations.scatterRows> = (
  { input, indices, table },
  { rows, width, count, inputWidth, column },
) => {
  const starts = Array.from({ length: rows }, (_, t) => rowStart('scatterRows', indices, t, count, width));
  for (const [t, start] of starts.entries()) {
    const from = t * inputWidth + column;
    table.set(input.subarray(from, from + width), start);
  }
};
