import type { Floats, Integers } from './arrays.ts';

/** The contract's numbers for the kinds, in the order of PoolKind. */
const first = 0;
const mean = 1;
const max = 2;

/** One row a sequence. Of equal maxima the first position is selected. Shapes as in Backend.pool. */
export function pool(
  input: Floats,
  output: Floats,
  selected: Integers | undefined,
  batch: number,
  length: number,
  width: number,
  kind: number,
): void {
  for (let b = 0; b < batch; b++) {
    for (let i = 0; i < width; i++) {
      const at = (t: number) => input[(b * length + t) * width + i];
      let sum = 0;
      let maximumAt = 0;
      for (let t = 0; t < length; t++) {
        sum += at(t);
        if (at(t) > at(maximumAt)) maximumAt = t;
      }
      const to = b * width + i;
      if (selected && kind === max) selected[to] = maximumAt;
      if (kind === first) output[to] = at(0);
      else if (kind === mean) output[to] = sum / length;
      else if (kind === max) output[to] = at(maximumAt);
      else {
        let exponentials = 0;
        for (let t = 0; t < length; t++) exponentials += Math.exp(at(t) - at(maximumAt));
        output[to] = at(maximumAt) + Math.log(exponentials);
      }
    }
  }
}

/** gradInput of each position: all at the first, an equal share, all at the selected, or by softmax over the positions. */
export function poolBackward(
  gradOutput: Floats,
  gradInput: Floats,
  input: Floats | undefined,
  output: Floats | undefined,
  selected: Integers | undefined,
  batch: number,
  length: number,
  width: number,
  kind: number,
): void {
  for (let b = 0; b < batch; b++) {
    for (let t = 0; t < length; t++) {
      for (let i = 0; i < width; i++) {
        const from = b * width + i;
        const to = (b * length + t) * width + i;
        let share: number;
        if (kind === first) share = t === 0 ? 1 : 0;
        else if (kind === mean) share = 1 / length;
        else if (kind === max) share = (selected as Integers)[from] === t ? 1 : 0;
        else share = Math.exp((input as Floats)[to] - (output as Floats)[from]);
        gradInput[to] = share * gradOutput[from];
      }
    }
  }
}
