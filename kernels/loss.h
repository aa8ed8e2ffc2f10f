// Losses and reductions. Long sums go in fixed pieces, each summed in double precision, added up in their order: no dependence on the threads.

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

// The sum of term(vector) over n elements: in single precision within 1024 of them, in double beyond. term(0) must be 0.
template <class Term>
UFB_INLINE double sumTerms(const float* x, size_t n, Term&& term) {
  double total = 0;
  for (size_t begin = 0; begin < n; begin += 1024) {
    const size_t end = begin + 1024 < n ? begin + 1024 : n;
    Vector sum0 = zero(), sum1 = zero();
    size_t i = begin;
    for (; i + 2 * lanes <= end; i += 2 * lanes) {
      sum0 += term(load(x + i));
      sum1 += term(load(x + i + lanes));
    }
    eachVector(i, end, [&](size_t j, size_t count) { sum0 += term(loadUpTo(x + j, count)); });
    total += static_cast<double>(sumLanes(sum0 + sum1));
  }
  return total;
}

// The sum over [0, count) of partial(begin, end), in pieces of `grain`.
template <class Partial>
UFB_INLINE double sumPieces(Context& context, size_t count, size_t grain, Partial&& partial) {
  const size_t pieces = (count + grain - 1) / grain;
  double* sums = static_cast<double*>(context.scratch(&context, context.threads, (pieces + 1) * sizeof(double)));
  parallelRanges(context, count, grain, [&](size_t begin, size_t end, int) { sums[begin / grain] = partial(begin, end); });
  double total = 0;
  for (size_t piece = 0; piece < pieces; piece++) total += sums[piece];
  return total;
}

inline void sum(Context& context, const Arguments& a) {
  const float* input = a.floats(0);
  float* output = a.floats(1);
  const double total = sumPieces(context, a.count(0), pieceSize, [&](size_t begin, size_t end) {
    return sumTerms(input + begin, end - begin, [](Vector v) { return v; });
  });
  output[0] = static_cast<float>(a.flag(1) ? static_cast<double>(output[0]) + total : total);
}

inline void sumOfSquares(Context& context, const Arguments& a) {
  const float* input = a.floats(0);
  const int32_t* rowMask = a.integers(1);
  const size_t rows = a.count(0), width = a.count(1);
  const auto squares = [&](size_t begin, size_t end) { return sumTerms(input + begin, end - begin, [](Vector v) { return v * v; }); };
  const double total = rowMask ? sumPieces(context, rows, rowsPerPiece(width), [&](size_t begin, size_t end) {
    double subtotal = 0;
    for (size_t r = begin; r < end; r++)
      if (rowMask[r]) subtotal += squares(r * width, (r + 1) * width);
    return subtotal;
  }) : sumPieces(context, rows * width, pieceSize, squares);
  a.floats(2)[0] = static_cast<float>(total);
}

// A column's sum goes down the rows, one by one.
inline void columnMean(Context& context, const Arguments& a) {
  const float* input = a.floats(0);
  float* output = a.floats(1);
  const size_t rows = a.count(0), width = a.count(1);
  const Vector share = splat(1.0f / static_cast<float>(rows > 0 ? rows : 1));
  parallelRanges(context, width, slabWidth, [&](size_t begin, size_t end, int) {
    eachVector(begin, end, [&](size_t i, size_t n) {
      Vector sum = rows > 0 ? loadUpTo(input + i, n) : zero();
      for (size_t r = 1; r < rows; r++) sum += loadUpTo(input + r * width + i, n);
      storeUpTo(output + i, sum * share, n);
    });
  });
}
