// The product of two arrays, element by element (see src/backend/operations/elementwise.ts).

inline void multiplyElements(Context& context, const Arguments& a) {
  const float *left = a.floats(0), *right = a.floats(1);
  float* output = a.floats(2);
  parallelVectors(context, a.count(0), [&](size_t i, size_t n) { storeUpTo(output + i, loadUpTo(left + i, n) * loadUpTo(right + i, n), n); });
}
