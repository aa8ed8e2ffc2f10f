// Normalization by the root of the mean square over the last dimension (see src/backend/operations/rms_norm.ts).

inline void rmsNorm(Context& context, const Arguments& a) {
  const float *input = a.floats(0), *gamma = a.floats(1);
  float *output = a.floats(2), *reciprocals = a.floats(3);
  const size_t rows = a.count(0), width = a.count(1);
  const double epsilon = a.numbers[2];
  parallelRanges(context, rows, rowsPerPiece(width), [&](size_t begin, size_t end, int) {
    for (size_t r = begin; r < end; r++) {
      const float* x = input + r * width;
      float* y = output + r * width;
      Vector squares = zero();
      eachVector(0, width, [&](size_t i, size_t n) {
        const Vector v = loadUpTo(x + i, n);
        squares = multiplyAdd(v, v, squares);
      });
      double sum = static_cast<double>(sumLanes(squares));
      if (!(sum < static_cast<double>(__builtin_inff()))) {  // it leaves the range of float, unless there is one that is no number
        sum = 0;
        for (size_t i = 0; i < width; i++) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
      }
      const float reciprocal = static_cast<float>(1 / __builtin_sqrt(sum / static_cast<double>(width) + epsilon));
      const Vector factor = splat(reciprocal);
      if (reciprocals) reciprocals[r] = reciprocal;
      eachVector(0, width, [&](size_t i, size_t n) { storeUpTo(y + i, loadUpTo(x + i, n) * factor * loadUpTo(gamma + i, n), n); });
    }
  });
}

// With x^ = x reciprocal and g = gamma dy: dx = reciprocal (g - x^ average(g x^)); dgamma = sum dy x^.
inline void rmsNormBackward(Context& context, const Arguments& a) {
  const float *input = a.floats(0), *gamma = a.floats(1), *reciprocals = a.floats(2), *gradOutput = a.floats(3);
  float *gradInput = a.floats(4), *gradGamma = a.floats(5);
  const size_t rows = a.count(0), width = a.count(1), grain = rowsPerPiece(width), padded = roundUp(width, lanes);
  const bool accumulate = a.flag(2);
  const size_t pieces = (rows + grain - 1) / grain;
  // Each piece's own sums, added up in the order of the pieces.
  float* sums = gradGamma ? static_cast<float*>(context.scratch(&context, context.threads, uint64_t{pieces} * padded * sizeof(float))) : nullptr;
  parallelRanges(context, rows, grain, [&](size_t begin, size_t end, int) {
    float* gammaSum = sums ? sums + begin / grain * padded : nullptr;
    if (sums) __builtin_memset(gammaSum, 0, padded * sizeof(float));
    for (size_t r = begin; r < end; r++) {
      const float *x = input + r * width, *dy = gradOutput + r * width;
      float* dx = gradInput + r * width;
      const Vector reciprocal = splat(reciprocals[r]);
      Vector product = zero();
      eachVector(0, width, [&](size_t i, size_t n) {
        const Vector d = loadUpTo(dy + i, n), normal = loadUpTo(x + i, n) * reciprocal;
        product = multiplyAdd(d * loadUpTo(gamma + i, n), normal, product);
        if (sums) store(gammaSum + i, multiplyAdd(d, normal, load(gammaSum + i)));
      });
      const Vector slope = splat(sumLanes(product) / static_cast<float>(width));
      eachVector(0, width, [&](size_t i, size_t n) {
        const Vector normal = loadUpTo(x + i, n) * reciprocal, g = loadUpTo(dy + i, n) * loadUpTo(gamma + i, n);
        Vector d = (g - normal * slope) * reciprocal;
        if (accumulate) d += loadUpTo(dx + i, n);
        storeUpTo(dx + i, d, n);
      });
    }
  });
  if (!sums) return;
  eachVector(0, width, [&](size_t i, size_t n) {
    Vector total = zero();
    for (size_t piece = 0; piece < pieces; piece++) total += load(sums + piece * padded + i);
    storeUpTo(gradGamma + i, loadUpTo(gradGamma + i, n) + total, n);
  });
}
