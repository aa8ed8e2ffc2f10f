// The greater of x and 0.

inline void relu(Context& context, const Arguments& a) {
  const float* input = a.floats(0);
  float* output = a.floats(1);
  // Selected where it is not above 0, so that what is no number stays none.
  parallelVectors(context, a.count(0), [&](size_t i, size_t n) {
    const Vector x = loadUpTo(input + i, n);
    storeUpTo(output + i, select(x <= zero(), zero(), x), n);
  });
}

inline void reluBackward(Context& context, const Arguments& a) {
  const float *output = a.floats(0), *gradOutput = a.floats(1);
  float* gradInput = a.floats(2);
  parallelVectors(context, a.count(0), [&](size_t i, size_t n) {
    storeUpTo(gradInput + i, select(loadUpTo(output + i, n) > zero(), loadUpTo(gradOutput + i, n), zero()), n);
  });
}
