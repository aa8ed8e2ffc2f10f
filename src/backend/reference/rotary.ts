import type { Implementation } from '../operations/operation.ts';
import type * as operations from '../operations/rotary.ts';

/** Rotary position embedding (arXiv 2104.09864, equation 34). Shapes as in the operation rotary. */
export const rotary: Implementation<typeof operations.rotary> = ({ vectors, rotation }, numbers) => {
  const { rows, heads, half, inverse, vectorsOffset, vectorsRowStride, vectorsHeadStride } = numbers;
  for (let t = 0; t < rows; t++) {
    for (let h = 0; h < heads; h++) {
      const start = vectorsOffset + t * vectorsRowStride + h * vectorsHeadStride;
      for (let i = 0; i < half; i++) {
        const cosine = rotation[t * 2 * half + i];
        const sine = rotation[t * 2 * half + half + i] * (inverse ? -1 : 1);
        const [first, second] = [vectors[start + i], vectors[start + half + i]];
        vectors[start + i] = first * cosine - second * sine;
        vectors[start + half + i] = second * cosine + first * sine;
      }
    }
  }
};
