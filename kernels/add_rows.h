// The rows of one array whose flag is set, added to another.

inline void addRows(Context& context, const Arguments& a) {
  const float* input = a.floats(0);
  const int32_t* inputMask = a.integers(1);
  float* output = a.floats(2);
  int32_t* rowMask = a.integers(3);
  const size_t width = a.count(1);
  parallelRanges(context, a.count(0), rowsPerPiece(width), [&](size_t begin, size_t end, int) {
    for (size_t r = begin; r < end; r++) {
      if (!inputMask[r]) continue;
      rowMask[r] = 1;
      const float* x = input + r * width;
      float* y = output + r * width;
      eachVector(0, width, [&](size_t i, size_t n) { storeUpTo(y + i, loadUpTo(y + i, n) + loadUpTo(x + i, n), n); });
    }
  });
}
