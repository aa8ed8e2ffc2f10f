// GELU by the hyperbolic tangent (see src/backend/operations/activations.ts). (1 + tanh(u)) / 2 is the logistic function of 2 u, which cancels nothing.

// 2 sqrt(2 / pi), and that times 0.044715.
constexpr float geluTanhFactor = 1.59576912f, geluTanhCubic = 0.0713548163f;

UFB_INLINE Vector geluTanhValue(Vector x) {
  Vector complement;
  return x * logistic(x * multiplyAdd(x * x, splat(geluTanhCubic), splat(geluTanhFactor)), complement);
}

UFB_INLINE Vector geluTanhSlope(Vector x) {
  Vector complement;
  const Vector square = x * x, share = logistic(x * multiplyAdd(square, splat(geluTanhCubic), splat(geluTanhFactor)), complement);
  const Vector curve = share * complement, inner = multiplyAdd(square, splat(3 * geluTanhCubic), splat(geluTanhFactor));
  // Far out the square is infinite, and the curve is 0 long before.
  return select(curve > zero(), multiplyAdd(x * inner, curve, share), share);
}

inline void geluTanh(Context& context, const Arguments& a) {
  const float* input = a.floats(0);
  float* output = a.floats(1);
  parallelVectors(context, a.count(0), [&](size_t i, size_t n) { storeUpTo(output + i, geluTanhValue(loadUpTo(input + i, n)), n); });
}

inline void geluTanhBackward(Context& context, const Arguments& a) {
  const float *input = a.floats(0), *gradOutput = a.floats(1);
  float* gradInput = a.floats(2);
  parallelVectors(context, a.count(0), [&](size_t i, size_t n) { storeUpTo(gradInput + i, loadUpTo(gradOutput + i, n) * geluTanhSlope(loadUpTo(input + i, n)), n); });
}
