// The negative log likelihood of a class under the softmax of logits, and its gradient.

inline void crossEntropy(Context& context, const Arguments& a) {
  const float* logits = a.floats(0);
  const int32_t* labels = a.integers(1);
  float *losses = a.floats(2), *gradLogits = a.floats(3);
  const size_t rows = a.count(0), classes = a.count(1);
  const float scale = a.number(2);
  const int32_t ignoreIndex = static_cast<int32_t>(a.numbers[3]);
  parallelRanges(context, rows, rowsPerPiece(classes), [&](size_t begin, size_t end, int) {
    for (size_t r = begin; r < end; r++) {
      const float* x = logits + r * classes;
      float* gradient = gradLogits ? gradLogits + r * classes : nullptr;
      const int32_t label = labels[r];
      if (label == ignoreIndex) {
        losses[r] = 0;
        if (gradient) __builtin_memset(gradient, 0, classes * sizeof(float));
        continue;
      }
      if (label < 0 || static_cast<size_t>(label) >= classes) {
        context.fail(&context, "crossEntropy: label %lld of row %lld is not one of %lld classes", label, static_cast<long long>(r), static_cast<long long>(classes));
        return;
      }
      Vector best = splat(x[0]);
      eachVector(0, classes, [&](size_t i, size_t n) { best = maximum(n == lanes ? load(x + i) : select(firstLanes(n), loadPart(x + i, n), best), best); });
      const Vector highest = splat(maximumLane(best));
      const float right = x[label];
      Vector total = zero();
      eachVector(0, classes, [&](size_t i, size_t n) {
        Vector e = exponential(loadUpTo(x + i, n) - highest);
        if (n < lanes) e = keepFirst(e, n);
        total += e;
        if (gradient) storeUpTo(gradient + i, e, n);
      });
      const float sum = sumLanes(total);
      losses[r] = logarithm(splat(sum))[0] + (highest[0] - right);
      if (!gradient) continue;
      const Vector factor = splat(scale / sum);
      eachVector(0, classes, [&](size_t i, size_t n) { storeUpTo(gradient + i, loadUpTo(gradient + i, n) * factor, n); });
      gradient[label] -= scale;
    }
  });
}
