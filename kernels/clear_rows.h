// Zeros for the rows whose flag is set.

inline void clearRows(Context& context, const Arguments& a) {
  float* gradient = a.floats(0);
  const int32_t* rowMask = a.integers(1);
  const size_t width = a.count(1);
  parallelRanges(context, a.count(0), rowsPerPiece(width), [&](size_t begin, size_t end, int) {
    for (size_t r = begin; r < end; r++)
      if (rowMask[r]) __builtin_memset(gradient + r * width, 0, width * sizeof(float));
  });
}
