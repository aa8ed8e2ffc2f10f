import type { Implementation } from '../operations/operation.ts';
import type * as operations from '../operations/pool.ts';
import type { Floats, Integers } from './arrays.ts';

/** The operation's numbers for the kinds, in the order of PoolKind. */
const first = 0;
const mean = 1;
const max = 2;
const logSumExp = 3;

/** The positions of a sequence that the mask leaves, all without one. */
function positions(mask: Integers | undefined, sequence: number, length: number): number[] {
  return Array.from({ length }, (_, t) => t).filter((t) => mask?.[sequence * length + t] !== 0);
}

/** One row a sequence. Of equal maxima the first position is selected. Shapes as in the operation pool. */
export const pool: Implementation<typeof operations.pool> = ({ input, output, selected, mask }, { batch, length, width, kind }) => {
  for (let b = 0; b < batch; b++) {
    const left = positions(mask, b, length);
    for (let i = 0; i < width; i++) {
      const at = (t: number) => input[(b * length + t) * width + i];
      const maximumAt = left.reduce((best, t) => (at(t) > at(best) ? t : best), left[0] ?? 0);
      const maximum = left.length > 0 ? at(maximumAt) : Number.NEGATIVE_INFINITY;
      const to = b * width + i;
      if (selected && kind === max) selected[to] = maximumAt;
      if (kind === first) output[to] = at(0);
      else if (kind === mean) output[to] = left.reduce((sum, t) => sum + at(t), 0) / Math.max(left.length, 1);
      else if (kind === max) output[to] = maximum;
      else output[to] = maximum + Math.log(left.reduce((sum, t) => sum + Math.exp(at(t) - maximum), 0));
    }
  }
};

/** gradInput of each position: all at the first, an equal share, all at the selected, or by softmax over the positions; 0 where the mask is. */
export const poolBackward: Implementation<typeof operations.poolBackward> = (
  { gradOutput, gradInput, input, output, selected, mask },
  { batch, length, width, kind },
) => {
  for (let b = 0; b < batch; b++) {
    const left = positions(mask, b, length);
    for (let t = 0; t < length; t++) {
      const isLeft = kind === first || !mask || mask[b * length + t] !== 0;
      for (let i = 0; i < width; i++) {
        const from = b * width + i;
        const to = (b * length + t) * width + i;
        let share: number | undefined; // of positions that have none, not even a NaN's
        if (isLeft) {
          if (kind === mean) share = 1 / left.length;
          else if (kind === logSumExp) share = Math.exp((input as Floats)[to] - (output as Floats)[from]);
          else if (t === (kind === first ? 0 : (selected as Integers)[from])) share = 1;
        }
        gradInput[to] = share === undefined ? 0 : share * gradOutput[from];
      }
    }
  }
};
