// SiLU (see src/backend/operations/activations.ts).

inline void silu(Context& context, const Arguments& a) {
  const float* input = a.floats(0);
  float* output = a.floats(1);
  parallelVectors(context, a.count(0), [&](size_t i, size_t n) {
    Vector complement;
    const Vector x = loadUpTo(input + i, n);
    storeUpTo(output + i, x * logistic(x, complement), n);
  });
}

inline void siluBackward(Context& context, const Arguments& a) {
  const float *input = a.floats(0), *gradOutput = a.floats(1);
  float* gradInput = a.floats(2);
  parallelVectors(context, a.count(0), [&](size_t i, size_t n) {
    Vector complement;
    const Vector x = loadUpTo(input + i, n), share = logistic(x, complement);
    storeUpTo(gradInput + i, loadUpTo(gradOutput + i, n) * multiplyAdd(x * complement, share, share), n);
  });
}
