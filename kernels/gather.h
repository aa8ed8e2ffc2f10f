// Rows of a table by index, and the gradients of table and scale. Indices come from outside: each is checked before it is followed.

constexpr const char* gatherMessage = "gather: index %lld of row %lld is not in a table of %lld rows";
constexpr const char* scatterMessage = "scatterAdd: index %lld of row %lld is not in a table of %lld rows";

inline bool indexInTable(Context& context, const char* message, const int32_t* indices, size_t row, size_t count) {
  if (indices[row] >= 0 && static_cast<size_t>(indices[row]) < count) return true;
  context.fail(&context, message, indices[row], static_cast<long long>(row), static_cast<long long>(count));
  return false;
}

inline void gather(Context& context, const Arguments& a) {
  const float *table = a.floats(0), *scalePointer = a.floats(3);
  const int32_t* indices = a.integers(1);
  float* output = a.floats(2);
  size_t rows = a.count(0), width = a.count(1), count = a.count(2);
  bool accumulate = a.flag(3);
  float scale = scalePointer ? *scalePointer : 1;
  parallelRanges(context, rows, 64, [&](size_t begin, size_t end, int) {
    for (size_t t = begin; t < end; t++) {
      if (!indexInTable(context, gatherMessage, indices, t, count)) continue;
      uint32_t row = static_cast<uint32_t>(indices[t]);
      sumRows(output + t * width, table, width, &row, &scale, 1, width, accumulate);
    }
  });
}

inline void scatterAdd(Context& context, const Arguments& a) {
  const int32_t* indices = a.integers(0);
  const float *input = a.floats(1), *scalePointer = a.floats(4);
  float* table = a.floats(2);
  int32_t* rowMask = a.integers(3);
  size_t rows = a.count(0), width = a.count(1), count = a.count(2);
  double skipped = a.numbers[3];

  char* block = static_cast<char*>(context.scratch(&context, context.threads, takes(rows * 4) * 5));
  uint32_t* tokens = take<uint32_t>(block, rows);  // the tokens that count, then in order of their table row
  uint32_t* keys = take<uint32_t>(block, rows);
  uint32_t* order = take<uint32_t>(block, rows);
  uint32_t* spare = take<uint32_t>(block, rows);
  float* scales = take<float>(block, rows);
  size_t entries = 0;
  for (size_t t = 0; t < rows; t++) {
    if (indices[t] == skipped || !indexInTable(context, scatterMessage, indices, t, count)) continue;
    tokens[entries] = static_cast<uint32_t>(t);
    keys[entries++] = static_cast<uint32_t>(indices[t]);
  }
  uint32_t* sorted = sortByKey(keys, entries, static_cast<uint32_t>(count), order, spare);
  uint32_t* sortedTokens = sorted == order ? spare : order;
  for (size_t e = 0; e < entries; e++) {
    sortedTokens[e] = tokens[sorted[e]];
    scales[e] = scalePointer ? *scalePointer : 1;
  }

  // A task: the table rows whose first entry lies among 64 entries, in one slab of columns.
  size_t pieces = (entries + 63) / 64, slabs = (width + slabWidth - 1) / slabWidth;
  parallel(context, pieces * slabs, [&](size_t task, int) {
    size_t column = task / pieces * slabWidth, columns = column + slabWidth < width ? slabWidth : width - column;
    size_t begin = task % pieces * 64, last = begin + 64 < entries ? begin + 64 : entries;
    while (begin < last && begin > 0 && keys[sorted[begin]] == keys[sorted[begin - 1]]) begin++;
    while (begin < last) {
      uint32_t row = keys[sorted[begin]];
      size_t end = begin + 1;
      while (end < entries && keys[sorted[end]] == row) end++;
      sumRows(table + row * width + column, input + column, width, sortedTokens + begin, scales + begin, end - begin, columns, true);
      if (rowMask && column == 0) rowMask[row] = 1;
      begin = end;
    }
  });
}

inline void gatherScaleBackward(Context& context, const Arguments& a) {
  const float *table = a.floats(0), *gradOutput = a.floats(2);
  const int32_t* indices = a.integers(1);
  size_t rows = a.count(0), width = a.count(1), count = a.count(2);
  constexpr size_t grain = 64;
  float* sums = static_cast<float*>(context.scratch(&context, context.threads, (rows / grain + 1) * 4));
  parallelRanges(context, rows, grain, [&](size_t begin, size_t end, int) {
    float sum = 0;
    for (size_t t = begin; t < end; t++) {
      if (indexInTable(context, gatherMessage, indices, t, count)) sum += dot(gradOutput + t * width, table + static_cast<size_t>(indices[t]) * width, width);
    }
    sums[begin / grain] = sum;
  });
  float sum = 0;
  for (size_t chunk = 0; chunk * grain < rows; chunk++) sum += sums[chunk];
  *a.floats(3) += sum;
}
