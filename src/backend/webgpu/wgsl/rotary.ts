import { elementKernel } from '../kernel.ts';

/** A thread a pair of elements. */
export const rotary = elementKernel(
  ({ rows, heads, half }) => rows * heads * half,
  `fn element(pair: u32) {
    let i = pair % p.half;
    let t = pair / p.half / p.heads;
    let at = p.vectorsOffset + t * p.vectorsRowStride + pair / p.half % p.heads * p.vectorsHeadStride + i;
    let cosine = get_rotation(t * 2u * p.half + i);
    let sine = get_rotation(t * 2u * p.half + p.half + i) * select(1.0, -1.0, p.inverse != 0u);
    let first = get_vectors(at);
    let second = get_vectors(at + p.half);
    set_vectors(at, first * cosine - second * sine);
    set_vectors(at + p.half, second * cosine + first * sine);
  }`,
);
