// The mean of every column: its sum goes down the rows, one by one.

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
