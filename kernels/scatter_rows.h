// Rows copied into those of a table that indices name (see src/backend/operations/gather.ts). Indices come from outside: each is checked.

constexpr const char* scatterRowsMessage = "scatterRows: index %lld of row %lld is not in a table of %lld rows";

inline void scatterRows(Context& context, const Arguments& a) {
  const float* input = a.floats(0);
  const int32_t* indices = a.integers(1);
  float* table = a.floats(2);
  const size_t rows = a.count(0), width = a.count(1), count = a.count(2), inputWidth = a.count(3), column = a.count(4);
  for (size_t t = 0; t < rows; t++)
    if (!indexInTable(context, scatterRowsMessage, indices, t, count)) return;
  // Columns are shared among the threads, so that of two rows for one place the later stays.
  parallelRanges(context, width, roundUp(pieceSize / (rows + 1) + 1, 64), [&](size_t begin, size_t end, int) {
    for (size_t t = 0; t < rows; t++)
      __builtin_memcpy(table + static_cast<size_t>(indices[t]) * width + begin, input + t * inputWidth + column + begin, (end - begin) * sizeof(float));
  });
}
