import { logistic } from './logistic.ts';

/** The standard normal density. */
export function normalDensity(x: number): number {
  return Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI);
}

/**
 * The standard normal distribution function Phi(x) = (1 + erf(x / sqrt 2)) / 2, to about 1e-15: near 0 by the series
 * Phi(x) = 1/2 + density(x) (x + x^3/3 + x^5/(3 5) + x^7/(3 5 7) + ...), in the tails by Laplace's continued fraction
 * 1 - Phi(x) = density(x) / (x + 1/(x + 2/(x + 3/(x + ...)))).
 */
export function normalDistribution(x: number): number {
  const magnitude = Math.abs(x);
  if (magnitude < 4) {
    const square = x * x;
    let term = x;
    let sum = x;
    let previous = Number.NaN;
    for (let odd = 3; sum !== previous; odd += 2) {
      previous = sum;
      term *= square / odd;
      sum += term;
    }
    return 0.5 + normalDensity(x) * sum;
  }
  // 40 levels: from 4 on the fraction has then converged to double precision.
  let fraction = magnitude;
  for (let level = 40; level > 0; level--) fraction = magnitude + level / fraction;
  const tail = normalDensity(magnitude) / fraction;
  return x < 0 ? tail : 1 - tail;
}

/** GELU, x Phi(x) (arXiv 1606.08415), the exact one. */
export function geluValue(x: number): number {
  return x * normalDistribution(x);
}

/** GELU's derivative, Phi(x) + x density(x). */
export function geluSlope(x: number): number {
  return normalDistribution(x) + x * normalDensity(x);
}

/** GELU by the hyperbolic tangent, x (1 + tanh(u)) / 2 = x logistic(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3) (arXiv 1606.08415). */
export function geluTanhValue(x: number): number {
  return x * logistic(twiceInner(x));
}

/** Its derivative, s + x s (1 - s) (2 u)' with s = logistic(2 u). */
export function geluTanhSlope(x: number): number {
  const [share, complement] = [logistic(twiceInner(x)), logistic(-twiceInner(x))];
  // An infinite x has no slope beside the share's.
  if (share * complement === 0) return share;
  return share + x * share * complement * 2 * Math.sqrt(2 / Math.PI) * (1 + 3 * 0.044715 * x * x);
}

const twiceInner = (x: number) => 2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3);
