// The hyperbolic tangent.

inline void tanhForward(Context& context, const Arguments& a) {
  const float* input = a.floats(0);
  float* output = a.floats(1);
  parallelVectors(context, a.count(0), [&](size_t i, size_t n) { storeUpTo(output + i, hyperbolicTangent(loadUpTo(input + i, n)), n); });
}

inline void tanhBackward(Context& context, const Arguments& a) {
  const float *output = a.floats(0), *gradOutput = a.floats(1);
  float* gradInput = a.floats(2);
  parallelVectors(context, a.count(0), [&](size_t i, size_t n) {
    const Vector y = loadUpTo(output + i, n);
    storeUpTo(gradInput + i, loadUpTo(gradOutput + i, n) * (splat(1.0f) - y * y), n);
  });
}
