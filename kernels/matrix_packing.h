// How operands of matrix_multiply.h are laid out before they are multiplied: panels that its tiles read in order, as float32 or rounded to bf16.

// A tile's accumulators, one row of b and one element of a fit in the vector registers.
#if defined(__AVX512F__)
constexpr int tileRows = 8, tileVectors = 3;
#elif defined(__AVX__)
constexpr int tileRows = 4, tileVectors = 3;
#elif defined(__aarch64__)
constexpr int tileRows = 8, tileVectors = 3;
#else
constexpr int tileRows = 4, tileVectors = 2;
#endif
constexpr size_t tileColumns = tileVectors * lanes;
constexpr size_t depthBlock = 256;
// How far ahead packing fetches rows that are too far apart for the processor to see them coming.
constexpr size_t prefetchRows = 8;

// Element (i, j) lies at data[i row + j column].
struct Matrix {
  const float* data;
  size_t row, column;
};

typedef float Four __attribute__((vector_size(16)));

// packed[p width + i] = source[i stride + p] for four i and `count` p.
UFB_INLINE void packFour(size_t count, const float* source, size_t stride, size_t width, float* packed) {
  size_t p = 0;
  for (; p + 4 <= count; p += 4) {
    // The rows of a call a little later: strided rows are too short for the processor to see them coming.
    if (p % 16 == 0) for (size_t i = 12; i < 16; i++) __builtin_prefetch(source + i * stride + p);
    Four a, b, c, d;
    __builtin_memcpy(&a, source + p, 16);
    __builtin_memcpy(&b, source + stride + p, 16);
    __builtin_memcpy(&c, source + 2 * stride + p, 16);
    __builtin_memcpy(&d, source + 3 * stride + p, 16);
    const Four ab01 = UFB_SHUFFLE(a, b, 0, 4, 1, 5), cd01 = UFB_SHUFFLE(c, d, 0, 4, 1, 5);
    const Four ab23 = UFB_SHUFFLE(a, b, 2, 6, 3, 7), cd23 = UFB_SHUFFLE(c, d, 2, 6, 3, 7);
    const Four rows[4] = {UFB_SHUFFLE(ab01, cd01, 0, 1, 4, 5), UFB_SHUFFLE(ab01, cd01, 2, 3, 6, 7),
                          UFB_SHUFFLE(ab23, cd23, 0, 1, 4, 5), UFB_SHUFFLE(ab23, cd23, 2, 3, 6, 7)};
    for (size_t r = 0; r < 4; r++) __builtin_memcpy(packed + (p + r) * width, &rows[r], 16);
  }
  for (; p < count; p++)
    for (size_t i = 0; i < 4; i++) packed[p * width + i] = source[i * stride + p];
}

// One panel: packed[p width + i] = source[i across + p along], for i in [0, count) and p in [0, depth); zeros for i in [count, width).
inline void packPanel(size_t count, size_t width, size_t depth, const float* source, size_t across, size_t along, float* packed) {
  size_t first = 0;
  if (across == 1) {
    for (; first + lanes <= count; first += lanes) {
      for (size_t p = 0; p < depth; p++) {
        __builtin_prefetch(source + first + (p + prefetchRows) * along);
        store(packed + p * width + first, load(source + first + p * along));
      }
    }
    for (; first + 4 <= count; first += 4)
      for (size_t p = 0; p < depth; p++) __builtin_memcpy(packed + p * width + first, source + first + p * along, 16);
  } else if (along == 1) {
    for (; first + 4 <= count; first += 4) packFour(depth, source + first * across, across, width, packed + first);
  }
  if (first == width) return;
  for (size_t p = 0; p < depth; p++) {
    for (size_t i = first; i < count; i++) packed[p * width + i] = source[i * across + p * along];
    for (size_t i = count; i < width; i++) packed[p * width + i] = 0;
  }
}

// What a tile multiplies panels by.
#if defined(__AVX512BF16__)
template <bool bf16> struct PanelProductOf { using Type = FloatProduct; };
template <> struct PanelProductOf<true> { using Type = Bf16Product; };
template <bool bf16> using PanelProduct = typename PanelProductOf<bf16>::Type;
#else
template <bool bf16> using PanelProduct = FloatProduct;
#endif

// Rounds a panel, `width` wide, where it lies. Pairs of neighbors in k share a word afterwards if the tile multiplies pairs: word
// p / 2 width + i holds (p, i) below and (p + 1, i) above, of an odd depth the last with 0.
UFB_INLINE void roundPanel(size_t width, size_t depth, float* panel) {
#if defined(__AVX512BF16__)
  static_assert(2 * tileRows == lanes);
  size_t p = 0;
  if (width == tileRows) {  // two pairs at once
    for (; p + 4 <= depth; p += 4) {
      const Vector first = load(panel + p * width), second = load(panel + (p + 2) * width);
      const Vector low = UFB_SHUFFLE(first, second, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
      const Vector high = UFB_SHUFFLE(first, second, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
      store(panel + p / 2 * width, reinterpret_cast<Vector>(packBf16(low, high)));
    }
  }
  for (; p < depth; p += 2) {
    for (size_t i = 0; i < width; i += lanes) {
      const size_t n = smaller(lanes, width - i);
      const Vector low = loadUpTo(panel + p * width + i, n), high = p + 1 < depth ? loadUpTo(panel + (p + 1) * width + i, n) : zero();
      storeUpTo(panel + p / 2 * width + i, reinterpret_cast<Vector>(packBf16(low, high)), n);
    }
  }
#else
  eachVector(0, width * depth, [&](size_t i, size_t n) { storeUpTo(panel + i, roundToBf16(loadUpTo(panel + i, n)), n); });
#endif
}

// Rounds a row that a tile reads unpacked; its words hold pairs of neighbors if the tile multiplies pairs. `rounded` has room for whole
// vectors and may be the row itself.
UFB_INLINE void roundRow(const float* row, size_t count, float* rounded) {
#if defined(__AVX512BF16__)
  for (size_t i = 0; i < count; i += 2 * lanes) {
    const Vector low = loadUpTo(row + i, smaller(lanes, count - i)), high = i + lanes < count ? loadUpTo(row + i + lanes, smaller(lanes, count - i - lanes)) : zero();
    store(rounded + i / 2, pairBf16(low, high));
  }
#else
  for (size_t i = 0; i < count; i += lanes) store(rounded + i, roundToBf16(loadUpTo(row + i, smaller(lanes, count - i))));
#endif
}

// Rows [0, m) of a, `depth` deep: panels of tileRows, the last as wide as what remains. Row i's panel starts at packed + i depth.
template <bool bf16> inline void packRows(size_t m, size_t depth, const Matrix& a, float* packed) {
  size_t i = 0;
  if (a.row == 1) {  // two panels at once: one is but half a cache line wide
    for (; i + 2 * tileRows <= m; i += 2 * tileRows) {
      float *left = packed + i * depth, *right = left + tileRows * depth;
      for (size_t p = 0; p < depth; p++) {
        const float* source = a.data + i + p * a.column;
        __builtin_prefetch(source + prefetchRows * a.column);
        __builtin_memcpy(left + p * tileRows, source, tileRows * sizeof(float));
        __builtin_memcpy(right + p * tileRows, source + tileRows, tileRows * sizeof(float));
      }
      if constexpr (bf16) {
        roundPanel(tileRows, depth, left);
        roundPanel(tileRows, depth, right);
      }
    }
  }
  for (; i < m; i += tileRows) {
    const size_t rows = smaller(tileRows, m - i);
    packPanel(rows, rows, depth, a.data + i * a.row, a.row, a.column, packed + i * depth);
    if constexpr (bf16) roundPanel(rows, depth, packed + i * depth);
  }
}

// Columns [0, n) of b, `depth` deep: panels of tileColumns, the last rounded up to whole vectors. Column j's panel starts at packed + j depth.
template <bool bf16> inline void packColumns(size_t n, size_t depth, const Matrix& b, float* packed) {
  for (size_t j = 0; j < n; j += tileColumns) {
    const size_t columns = smaller(tileColumns, n - j), width = roundUp(columns, lanes);
    packPanel(columns, width, depth, b.data + j * b.column, b.column, b.row, packed + j * depth);
    if constexpr (bf16) roundPanel(width, depth, packed + j * depth);
  }
}
