// Normalization over the last dimension (see src/backend/operations/layer_norm.ts); rows are shared among the threads.

// A row whose sums leave the range of float, so that only double holds them: the same as of any other.
inline void normalizeInDouble(const float* x, const float* gamma, const float* beta, float* y, size_t width, double epsilon, float& mean, float& rstd) {
  double total = 0, squares = 0;
  for (size_t i = 0; i < width; i++) total += static_cast<double>(x[i]);
  const double average = total / static_cast<double>(width);
  for (size_t i = 0; i < width; i++) squares += (static_cast<double>(x[i]) - average) * (static_cast<double>(x[i]) - average);
  const double factor = 1 / __builtin_sqrt(squares / static_cast<double>(width) + epsilon);
  for (size_t i = 0; i < width; i++)
    y[i] = static_cast<float>((static_cast<double>(x[i]) - average) * factor * static_cast<double>(gamma[i]) + static_cast<double>(beta[i]));
  mean = static_cast<float>(average);
  rstd = static_cast<float>(factor);
}

inline void layerNorm(Context& context, const Arguments& a) {
  const float *input = a.floats(0), *gamma = a.floats(1), *beta = a.floats(2);
  float *output = a.floats(3), *means = a.floats(4), *rstds = a.floats(5);
  const size_t rows = a.count(0), width = a.count(1);
  const double epsilon = a.numbers[2];
  parallelRanges(context, rows, rowsPerPiece(width), [&](size_t begin, size_t end, int) {
    for (size_t r = begin; r < end; r++) {
      const float* x = input + r * width;
      float* y = output + r * width;
      Vector total = zero();
      eachVector(0, width, [&](size_t i, size_t n) { total += loadUpTo(x + i, n); });
      float mean = sumLanes(total) / static_cast<float>(width);
      Vector squares = zero();
      eachVector(0, width, [&](size_t i, size_t n) {
        const Vector d = loadUpTo(x + i, n) - splat(mean);
        squares += n == lanes ? d * d : keepFirst(d * d, n);
      });
      const float sum = sumLanes(squares);
      float rstd = static_cast<float>(1 / __builtin_sqrt(static_cast<double>(sum) / static_cast<double>(width) + epsilon));
      if (__builtin_isfinite(sum)) {
        eachVector(0, width, [&](size_t i, size_t n) {
          const Vector normal = (loadUpTo(x + i, n) - splat(mean)) * splat(rstd);
          storeUpTo(y + i, multiplyAdd(normal, loadUpTo(gamma + i, n), loadUpTo(beta + i, n)), n);
        });
      } else {
        normalizeInDouble(x, gamma, beta, y, width, epsilon, mean, rstd);
      }
      if (means) means[r] = mean;
      if (rstds) rstds[r] = rstd;
    }
  });
}

// With x^ = (x - mean) rstd and g = gamma dy: dx = rstd (g - average(g) - x^ average(g x^)); dgamma = sum dy x^, dbeta = sum dy.
inline void layerNormBackward(Context& context, const Arguments& a) {
  const float *input = a.floats(0), *gamma = a.floats(1), *means = a.floats(2), *rstds = a.floats(3), *gradOutput = a.floats(4);
  float *gradInput = a.floats(5), *gradGamma = a.floats(6), *gradBeta = a.floats(7);
  const size_t rows = a.count(0), width = a.count(1), grain = rowsPerPiece(width), padded = roundUp(width, lanes);
  const bool accumulate = a.flag(2), parameters = gradGamma || gradBeta;
  const size_t pieces = (rows + grain - 1) / grain;
  // Each piece's own sums for gamma and beta, added up in the order of the pieces.
  float* sums = parameters ? static_cast<float*>(context.scratch(&context, context.threads, uint64_t{pieces} * 2 * padded * sizeof(float))) : nullptr;
  parallelRanges(context, rows, grain, [&](size_t begin, size_t end, int) {
    float *gammaSum = sums ? sums + begin / grain * 2 * padded : nullptr, *betaSum = gammaSum + padded;
    if (sums) __builtin_memset(gammaSum, 0, 2 * padded * sizeof(float));
    for (size_t r = begin; r < end; r++) {
      const float *x = input + r * width, *dy = gradOutput + r * width;
      float* dx = gradInput + r * width;
      const Vector mean = splat(means[r]), rstd = splat(rstds[r]);
      Vector sum = zero(), product = zero();
      eachVector(0, width, [&](size_t i, size_t n) {
        const Vector d = loadUpTo(dy + i, n), normal = (loadUpTo(x + i, n) - mean) * rstd, g = d * loadUpTo(gamma + i, n);
        sum += g;
        product = multiplyAdd(g, normal, product);
        if (sums) {
          store(gammaSum + i, multiplyAdd(d, normal, load(gammaSum + i)));
          store(betaSum + i, load(betaSum + i) + d);
        }
      });
      const Vector average = splat(sumLanes(sum) / static_cast<float>(width)), slope = splat(sumLanes(product) / static_cast<float>(width));
      eachVector(0, width, [&](size_t i, size_t n) {
        const Vector normal = (loadUpTo(x + i, n) - mean) * rstd, g = loadUpTo(dy + i, n) * loadUpTo(gamma + i, n);
        Vector d = (g - average - normal * slope) * rstd;
        if (accumulate) d += loadUpTo(dx + i, n);
        storeUpTo(dx + i, d, n);
      });
    }
  });
  if (!sums) return;
  eachVector(0, width, [&](size_t i, size_t n) {
    Vector forGamma = zero(), forBeta = zero();
    for (size_t piece = 0; piece < pieces; piece++) {
      forGamma += load(sums + piece * 2 * padded + i);
      forBeta += load(sums + piece * 2 * padded + padded + i);
    }
    if (gradGamma) storeUpTo(gradGamma + i, loadUpTo(gradGamma + i, n) + forGamma, n);
    if (gradBeta) storeUpTo(gradBeta + i, loadUpTo(gradBeta + i, n) + forBeta, n);
  });
}
