// The squares of differences, and their gradient.

inline void squaredError(Context& context, const Arguments& a) {
  const float *predictions = a.floats(0), *targets = a.floats(1);
  float *losses = a.floats(2), *gradPredictions = a.floats(3);
  const Vector slope = splat(2 * a.number(1));
  parallelVectors(context, a.count(0), [&](size_t i, size_t n) {
    const Vector difference = loadUpTo(predictions + i, n) - loadUpTo(targets + i, n);
    storeUpTo(losses + i, difference * difference, n);
    if (gradPredictions) storeUpTo(gradPredictions + i, slope * difference, n);
  });
}
