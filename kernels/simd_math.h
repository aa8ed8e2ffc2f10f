// Elementary functions of vectors, to a few units in the last place of float32. Polynomials are minimax fits (weighted for relative
// error) over the reduced ranges named beside them. NaN stays NaN.

UFB_INLINE Vector polynomial(Vector, float c) { return splat(c); }
// c0 + c1 x + c2 x^2 + ..., by Horner's rule.
template <class... More>
UFB_INLINE Vector polynomial(Vector x, float c0, More... more) { return multiplyAdd(polynomial(x, more...), x, splat(c0)); }

UFB_INLINE IntVector bitsOf(Vector v) { return reinterpret_cast<IntVector>(v); }
UFB_INLINE Vector fromBits(IntVector v) { return reinterpret_cast<Vector>(v); }
UFB_INLINE Vector absolute(Vector x) { return fromBits(bitsOf(x) & 0x7fffffff); }
// The magnitude of a with the sign of b.
UFB_INLINE Vector withSign(Vector a, Vector b) { return fromBits((bitsOf(a) & 0x7fffffff) | (bitsOf(b) & ~0x7fffffff)); }

UFB_INLINE Vector squareRoot(Vector v) {
  float x[lanes];
  __builtin_memcpy(x, &v, sizeof v);
  for (int i = 0; i < lanes; i++) x[i] = __builtin_sqrtf(x[i]);
  return load(x);
}

// e^x = 2^n e^r, |r| <= ln(2) / 2. Overflows to infinity, underflows gradually to 0.
UFB_INLINE Vector exponential(Vector x) {
  const Vector low = splat(-104.0f), high = splat(89.0f), rounder = splat(12582912.0f);  // 1.5 2^23: adding it rounds to an integer
  [[maybe_unused]] const Vector given = x;
  x = select(x < low, low, x);
  x = select(x > high, high, x);
  const Vector shifted = multiplyAdd(x, splat(1.44269504f), rounder);
  const Vector n = shifted - rounder;
  // ln 2 in two parts, the first short enough for n times it to be exact.
  Vector r = multiplyAdd(n, splat(-0.693359375f), x);
  r = multiplyAdd(n, splat(2.12194440e-4f), r);
  const Vector p = polynomial(r, 0.5f, 0.166666657f, 0.0416662954f, 0.00833349768f, 0.00139447593f, 0.000197902496f);
  const Vector value = multiplyAdd(p, r * r, r) + splat(1.0f);
#if defined(__AVX512F__)
  return __builtin_ia32_scalefps512_mask(value, n, value, 0xffff, 4);  // of all lanes; 4: rounded as everything else
#else
  // 2^n in two factors: n reaches from -150 to 128, a float's exponent only from -126 to 127.
  const IntVector exponent = bitsOf(shifted) - bitsOf(rounder), half = exponent >> 1;
  const Vector result = value * fromBits((half + 127) << 23) * fromBits((exponent - half + 127) << 23);
#if defined(__wasm_relaxed_simd__)
  return select(given == given, result, given);  // the selections above become instructions that may lose a NaN
#else
  return result;
#endif
#endif
}

// Natural logarithm of x > 0 = 2^n (1 + f), 1 + f in [sqrt(1/2), sqrt(2)); log(0) = -infinity, of a negative number NaN.
UFB_INLINE Vector logarithm(Vector x) {
  const IntVector tiny = x < splat(1.17549435e-38f);
  const Vector scaled = select(tiny, x * splat(8388608.0f), x);
  const IntVector offset = bitsOf(scaled) - 0x3f3504f3;  // sqrt(1/2)
  const IntVector n = (offset >> 23) - (tiny & 23);
  const Vector f = fromBits((offset & 0x7fffff) + 0x3f3504f3) - splat(1.0f);
  const Vector p = polynomial(f, 0.333333135f, -0.250000089f, 0.200021192f, -0.166679963f, 0.142195359f, -0.12405555f, 0.118882649f, -0.116759337f, 0.0674675927f);
  const Vector exponent = __builtin_convertvector(n, Vector), square = f * f;
  Vector result = multiplyAdd(p * f, square, exponent * splat(-2.12194440e-4f));
  result = multiplyAdd(square, splat(-0.5f), result) + f;
  result = multiplyAdd(exponent, splat(0.693359375f), result);
  const float infinity = __builtin_inff();
  result = select(x < splat(infinity), result, x);  // infinity and NaN stay
  result = select(x > zero(), result, select(x == zero(), splat(-infinity), x - x + splat(__builtin_nanf(""))));
  return result;
}

UFB_INLINE Vector hyperbolicTangent(Vector x) {
  const Vector a = absolute(x), square = x * x;
  const Vector near = multiplyAdd(polynomial(square, -0.333333313f, 0.133332059f, -0.0539467596f, 0.0217006803f, -0.00817733631f, 0.00214290177f) * square, x, x);
  const Vector e = exponential(a * splat(-2.0f));
  const Vector far = (splat(1.0f) - e) / (splat(1.0f) + e);
  return select(a < splat(0.625f), near, withSign(far, x));
}

// The logistic function 1 / (1 + e^-x); `complement` gets 1 minus it, without cancellation.
UFB_INLINE Vector logistic(Vector x, Vector& complement) {
  const Vector e = exponential(zero() - absolute(x)), near = splat(1.0f) / (splat(1.0f) + e), far = e * near;
  complement = select(x > zero(), far, near);
  return select(x > zero(), near, far);
}

// The standard normal distribution: returns Phi(x) = (1 + erf(x / sqrt 2)) / 2; `gaussian` gets e^(-x^2 / 2).
// Phi(-|x|) = e^(-x^2 / 2) g(t), t = 1 / (1 + 0.21 |x|), with g a polynomial fitted over |x| <= 14 (relative error 1.6e-8).
UFB_INLINE Vector normalDistribution(Vector x, Vector& gaussian) {
  gaussian = exponential(x * x * splat(-0.5f));
  const Vector t = splat(1.0f) / multiplyAdd(absolute(x), splat(0.21f), splat(1.0f));
  const Vector g = polynomial(t, 0.0837115794f, 0.0850687623f, 0.0691928118f, 0.12487036f, -0.0939198434f, 0.349393368f, -0.330246687f, 0.28358525f, -0.0716556087f);
  const Vector tail = gaussian * (g * t);
  return select(x > zero(), splat(1.0f) - tail, tail);
}
