// Sums of rows picked by an index: what gathers (a token's nodes) and scatters (a node's tokens) come down to. A scatter first sorts
// its entries by the row they go to, so that one worker sums a row in the order of the tokens: no atomics, no dependence on timing.

// Columns that one scatter task takes: a multiple of eight vectors on every instruction set.
constexpr size_t slabWidth = 128;

template <int vectors>
UFB_INLINE void sumRowsColumns(float* y, const float* base, size_t stride, const uint32_t* rows, const float* scales, size_t count, bool accumulate) {
  Vector sum[vectors];
  for (int v = 0; v < vectors; v++) sum[v] = accumulate ? load(y + v * lanes) : zero();
  for (size_t e = 0; e < count; e++) {
    const float* row = base + rows[e] * stride;
    Vector scale = splat(scales[e]);
    for (int v = 0; v < vectors; v++) sum[v] = multiplyAdd(scale, load(row + v * lanes), sum[v]);
  }
  for (int v = 0; v < vectors; v++) store(y + v * lanes, sum[v]);
}

// y (+)= sum over e of scales[e] base[rows[e] stride ...], over `width` columns, in order of e.
UFB_INLINE void sumRows(float* y, const float* base, size_t stride, const uint32_t* rows, const float* scales, size_t count, size_t width, bool accumulate) {
  size_t i = 0;
  for (; i + 8 * lanes <= width; i += 8 * lanes) sumRowsColumns<8>(y + i, base + i, stride, rows, scales, count, accumulate);
  for (; i + lanes <= width; i += lanes) sumRowsColumns<1>(y + i, base + i, stride, rows, scales, count, accumulate);
  if (i == width) return;
  Vector sum = accumulate ? loadPart(y + i, width - i) : zero();
  for (size_t e = 0; e < count; e++) sum = multiplyAdd(splat(scales[e]), loadPart(base + rows[e] * stride + i, width - i), sum);
  storePart(y + i, sum, width - i);
}

// As sumRows, for several rows of y at once (yStride apart, their scales scaleStride apart): what is summed is loaded once for them.
template <int targets, bool whole>
UFB_INLINE void sumRowsTogether(float* y, size_t yStride, const float* base, size_t stride, const uint32_t* rows, const float* scales, size_t scaleStride, size_t count,
                                size_t columns) {
  Vector sum[targets][4];
  const auto part = [&](int v) { return columns > static_cast<size_t>(v * lanes) ? smaller(lanes, columns - v * lanes) : 0; };
  const auto some = [&](const float* from, int v) { return whole ? load(from + v * lanes) : part(v) > 0 ? loadUpTo(from + v * lanes, part(v)) : zero(); };
#pragma GCC unroll 4
  for (int t = 0; t < targets; t++)
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) sum[t][v] = some(y + t * yStride, v);
  for (size_t e = 0; e < count; e++) {
    Vector x[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) x[v] = some(base + rows[e] * stride, v);
#pragma GCC unroll 4
    for (int t = 0; t < targets; t++) {
      const Vector scale = splat(scales[t * scaleStride + e]);
#pragma GCC unroll 4
      for (int v = 0; v < 4; v++) sum[t][v] = multiplyAdd(scale, x[v], sum[t][v]);
    }
  }
#pragma GCC unroll 4
  for (int t = 0; t < targets; t++)
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
      if (whole) store(y + t * yStride + v * lanes, sum[t][v]);
      else if (part(v) > 0) storeUpTo(y + t * yStride + v * lanes, sum[t][v], part(v));
    }
}

// The order of entries [0, count) by key (all below `limit`), entries of one key in their own order: a radix sort, 8 bits a pass.
// order and spare hold count entries each; the result lies in the one that is returned.
inline uint32_t* sortByKey(const uint32_t* keys, size_t count, uint32_t limit, uint32_t* order, uint32_t* spare) {
  for (size_t i = 0; i < count; i++) order[i] = static_cast<uint32_t>(i);
  for (int shift = 0; shift < 32 && (limit - 1) >> shift > 0; shift += 8) {
    uint32_t start[257] = {0};
    for (size_t i = 0; i < count; i++) start[(keys[i] >> shift & 255) + 1]++;
    for (int digit = 0; digit < 256; digit++) start[digit + 1] += start[digit];
    for (size_t i = 0; i < count; i++) spare[start[keys[order[i]] >> shift & 255]++] = order[i];
    uint32_t* sorted = spare;
    spare = order;
    order = sorted;
  }
  return order;
}
