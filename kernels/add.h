// One array and a multiple of another, or of a row.

inline void add(Context& context, const Arguments& a) {
  const float *left = a.floats(0), *right = a.floats(1);
  float* output = a.floats(2);
  const Vector scale = splat(a.number(1));
  parallelVectors(context, a.count(0), [&](size_t i, size_t n) { storeUpTo(output + i, multiplyAdd(scale, loadUpTo(right + i, n), loadUpTo(left + i, n)), n); });
}

inline void addRow(Context& context, const Arguments& a) {
  const float* row = a.floats(0);
  float* output = a.floats(1);
  const size_t rows = a.count(0), width = a.count(1), grain = width > pieceSize ? 1 : pieceSize / (width > 0 ? width : 1);
  const Vector scale = splat(a.number(2));
  parallelRanges(context, rows, grain, [&](size_t begin, size_t end, int) {
    for (size_t r = begin; r < end; r++) {
      float* y = output + r * width;
      eachVector(0, width, [&](size_t i, size_t n) { storeUpTo(y + i, multiplyAdd(scale, loadUpTo(row + i, n), loadUpTo(y + i, n)), n); });
    }
  });
}
