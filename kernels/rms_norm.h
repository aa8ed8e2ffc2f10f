// Normalization by the root of the mean square over the last dimension (see src/backend/operations/rms_norm.ts).

inline void rmsNorm(Context& context, const Arguments& a) {
  const float *input = a.floats(0), *gamma = a.floats(1);
  float* output = a.floats(2);
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
      const Vector factor = splat(static_cast<float>(1 / __builtin_sqrt(sum / static_cast<double>(width) + epsilon)));
      eachVector(0, width, [&](size_t i, size_t n) { storeUpTo(y + i, loadUpTo(x + i, n) * factor * loadUpTo(gamma + i, n), n); });
    }
  });
}
