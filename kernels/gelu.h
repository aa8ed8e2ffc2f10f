// Exact GELU, x Phi(x), to a few units in the last place of float32; to a few dozen beyond -5, where its exponent rounds and it is next to
// nothing.
UFB_INLINE Vector geluValue(Vector x) {
  Vector gaussian;
  return x * normalDistribution(x, gaussian);
}

// Its derivative: Phi(x) + x phi(x).
UFB_INLINE Vector geluSlope(Vector x) {
  Vector gaussian;
  const Vector phi = normalDistribution(x, gaussian);
  return multiplyAdd(x * splat(0.398942280f), gaussian, phi);
}

inline void gelu(Context& context, const Arguments& a) {
  const float* input = a.floats(0);
  float* output = a.floats(1);
  parallelVectors(context, a.count(0), [&](size_t i, size_t n) { storeUpTo(output + i, geluValue(loadUpTo(input + i, n)), n); });
}

inline void geluBackward(Context& context, const Arguments& a) {
  const float *input = a.floats(0), *gradOutput = a.floats(1);
  float* gradInput = a.floats(2);
  parallelVectors(context, a.count(0), [&](size_t i, size_t n) { storeUpTo(gradInput + i, loadUpTo(gradOutput + i, n) * geluSlope(loadUpTo(input + i, n)), n); });
}
