/** 1 / (1 + e^-x), of which 1 minus it is that of -x, without cancellation. */
export function logistic(x: number): number {
  const e = Math.exp(-Math.abs(x));
  return x > 0 ? 1 / (1 + e) : e / (1 + e);
}
