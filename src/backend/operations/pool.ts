import { ShapeError } from '../../errors.ts';
import type { Tensor } from '../tensor.ts';
import { input, operation, optional, output } from './operation.ts';
import { indexIn, isCount, widthOf } from './shapes.ts';

export const poolKinds = ['first', 'mean', 'max', 'logSumExp'] as const;
export type PoolKind = (typeof poolKinds)[number];

export interface Pooled {
  batch: number;
  length: number;
  kind: PoolKind;
}

function poolNumbers({ batch, length, kind }: Pooled, pooled: Tensor) {
  const code = indexIn('kind', kind, poolKinds);
  if (!isCount(batch) || !isCount(length) || length < 1)
    throw new ShapeError(`batch ${batch} and length ${length} must be counts, the length at least 1`);
  return [batch, length, widthOf(pooled, batch), code] as const;
}

/**
 * One row a sequence from input [batch length, width]: the first position, the mean, the maximum or the log of the sum of exponentials of each
 * feature over its positions, or over those that mask, i32 [batch, length], does not give 0 ('first' takes no notice of it; where no position is left
 * the mean is 0, the others are -Infinity). selected i32 [batch, width] keeps the maximum's position (kind 'max').
 */
export const pool = operation<Pooled>()('pool', {
  operands: {
    input: input('f32', 'batch', 'length', 'width'),
    output: output('f32', 'batch', 'width'),
    selected: optional(output('i32', 'batch', 'width')),
    mask: optional(input('i32', 'batch', 'length')),
  },
  numbers: ['batch', 'length', 'width', 'kind'],
  measure: (a) => poolNumbers(a, a.output),
});

/** gradInput [batch length, width] is overwritten throughout. input and output for 'logSumExp', selected for 'max'. */
export const poolBackward = operation<Pooled>()('poolBackward', {
  operands: {
    gradOutput: input('f32', 'batch', 'width'),
    gradInput: output('f32', 'batch', 'length', 'width'),
    input: optional(input('f32', 'batch', 'length', 'width')),
    output: optional(input('f32', 'batch', 'width')),
    selected: optional(input('i32', 'batch', 'width')),
    mask: optional(input('i32', 'batch', 'length')),
  },
  numbers: ['batch', 'length', 'width', 'kind'],
  measure: (a) => {
    const numbers = poolNumbers(a, a.gradOutput);
    if (a.kind === 'max' && !a.selected) throw new ShapeError("kind 'max' needs selected");
    if (a.kind === 'logSumExp' && !(a.input && a.output)) throw new ShapeError("kind 'logSumExp' needs input and output");
    return numbers;
  },
});
