import { ShapeError } from '../../errors.ts';
import { input, operation, strided } from './operation.ts';
import { describe, isCount, widthOf } from './shapes.ts';

/**
 * Rotary position embedding (arXiv 2104.09864), in place: in each row t and head, elements i and half + i, i < half, turn by the angle whose
 * cosine is rotation[t][i] and whose sine is rotation[t][half + i]; what a head has behind them stays. Row t and head h of `vectors` begin at
 * offset + t rowStride + h headStride (its batchStride is of no account). rotation [rows, 2 half]. inverse: they turn the other way, which is the backward.
 */
export const rotary = operation<{ rows: number; heads: number; inverse?: boolean }>()('rotary', {
  operands: { vectors: strided('updated'), rotation: input('f32') },
  numbers: ['rows', 'heads', 'half', 'inverse', 'vectorsOffset', 'vectorsBatchStride', 'vectorsRowStride', 'vectorsHeadStride'],
  measure({ vectors, rotation, rows, heads, inverse }) {
    const { tensor, offset, batchStride, rowStride, headStride } = vectors;
    if (![rows, heads, offset, batchStride, rowStride, headStride].every(isCount) || rows < 1 || heads < 1)
      throw new ShapeError('rows, heads and strides must be counts');
    const half = widthOf(rotation, rows) / 2;
    if (!Number.isInteger(half)) throw new ShapeError(`rotation ${describe(rotation)} has not as many sines as cosines`);
    if (2 * half > headStride && heads > 1)
      throw new ShapeError(`rotation ${describe(rotation)} is of more than a head's ${headStride} elements`);
    const last = offset + (rows - 1) * rowStride + (heads - 1) * headStride + 2 * half;
    if (last > tensor.size) throw new ShapeError(`vectors reach element ${last} of ${describe(tensor)}`);
    return [rows, heads, half, inverse ? 1 : 0, offset, batchStride, rowStride, headStride];
  },
});
