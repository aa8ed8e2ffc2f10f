// Matrix multiplication: c [m, n] (+)= a [m, k] b [k, n], a and b with any strides, c row-major.
//
// Both operands are packed (but for the few rows of multiplyRows) into panels that the tile kernel reads in order (Goto and van
// de Geijn, "Anatomy of high-performance matrix multiplication", 2008): a in panels of `tileRows` rows, b in panels of `tileColumns` columns, `depthBlock` deep.
// The sum over k of every element has one order, whatever m, n, the threads and the element's place: within a depth block one
// chain of multiply-adds, block after block added to c. A row therefore answers the same bits alone as in a batch.
//
// With `bf16` both operands are rounded to bf16 (to nearest, ties to even), where they are packed or by rowsFor, and their products summed in f32: by
// instructions that take pairs of neighbors in k where the processor has them, else as floats.

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

// What happens to a finished output: + bias [n], then preActivation (laid out as c) keeps it, then GELU.
struct Epilogue {
  const float* bias;
  bool gelu;
  float* preActivation;
  bool any() const { return bias || gelu; }
};

// ------------------------------------------------------------------ packing

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

// ------------------------------------------------------------------ tiles

// c [rows, columns] (+)= one panel of a times one of b; columns fill the last vector at least in part. Not packed, a's rows lie aRow apart.
template <class Product, bool packed, int rows, int vectors>
inline void multiplyTile(size_t depth, const float* rowsOfA, size_t aRow, const float* panelB, float* c, size_t cRow, size_t columns, bool accumulate) {
  static_assert(packed || sizeof(typename Product::Left) == sizeof(float));
  const typename Product::Left* a = reinterpret_cast<const typename Product::Left*>(rowsOfA);
  const typename Product::Right* b = reinterpret_cast<const typename Product::Right*>(panelB);
  Vector sum[rows][vectors];
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++) sum[i][j] = zero();
  for (size_t p = 0; p < depth; p += Product::group) {
    decltype(Product::right(b)) right[vectors];
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++) right[j] = Product::right(b + j * lanes * Product::group);
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 4
      for (int j = 0; j < vectors; j++) sum[i][j] = Product::multiply(packed ? a[i] : a[static_cast<size_t>(i) * aRow], right[j], sum[i][j]);
    }
    a += packed ? rows : 1;
    b += vectors * lanes * Product::group;
  }
  const size_t part = columns - (vectors - 1) * lanes;
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++) {
    float* y = c + i * cRow;
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++) {
      if (j < vectors - 1 || part == lanes) store(y + j * lanes, accumulate ? load(y + j * lanes) + sum[i][j] : sum[i][j]);
      else storePart(y + j * lanes, accumulate ? loadPart(y + j * lanes, part) + sum[i][j] : sum[i][j], part);
    }
  }
}

using TileKernel = void (*)(size_t depth, const float* a, size_t aRow, const float* b, float* c, size_t cRow, size_t columns, bool accumulate);

template <class Product, bool packed, int rows, int vectors> inline TileKernel tileOf(size_t wanted) {
  if constexpr (rows > 1) {
    if (wanted != rows) return tileOf<Product, packed, rows - 1, vectors>(wanted);
  }
  return multiplyTile<Product, packed, rows, vectors>;
}
template <class Product, bool packed> inline TileKernel tileKernel(size_t rows, size_t columns) {
  const size_t vectors = (columns + lanes - 1) / lanes;
  if constexpr (tileVectors > 2) {
    if (vectors == 3) return tileOf<Product, packed, tileRows, 3>(rows);
  }
  return vectors == 2 ? tileOf<Product, packed, tileRows, 2>(rows) : tileOf<Product, packed, tileRows, 1>(rows);
}

inline void finishTile(size_t rows, size_t columns, const Epilogue& epilogue, float* c, size_t cRow, size_t row, size_t column) {
  for (size_t j = 0; j < columns; j += lanes) {
    const size_t n = smaller(lanes, columns - j);
    const Vector bias = epilogue.bias ? loadPart(epilogue.bias + column + j, n) : zero();
    for (size_t i = 0; i < rows; i++) {
      const size_t at = (row + i) * cRow + column + j;
      Vector x = loadPart(c + at, n);
      if (epilogue.bias) x += bias;
      if (epilogue.preActivation) storePart(epilogue.preActivation + at, x, n);
      storePart(c + at, epilogue.gelu ? geluValue(x) : x, n);
    }
  }
}

// c's rows [row, row + m) and columns [column, column + n) from packed panels, one depth block. b's panel stays in the first-level
// cache while a's stream past it.
template <class Product>
inline void multiplyPanels(size_t m, size_t n, size_t depth, const float* a, const float* b, float* c, size_t cRow, size_t row, size_t column,
                           bool accumulate, const Epilogue* epilogue) {
  for (size_t j = 0; j < n; j += tileColumns) {
    const size_t columns = smaller(tileColumns, n - j);
    for (size_t i = 0; i < m; i += tileRows) {
      const size_t rows = smaller(tileRows, m - i);
      tileKernel<Product, true>(rows, columns)(depth, a + i * depth, 0, b + j * depth, c + (row + i) * cRow + column + j, cRow, columns, accumulate);
      if (epilogue) finishTile(rows, columns, *epilogue, c, cRow, row + i, column + j);
    }
  }
}

// ------------------------------------------------------------------ on one thread

// Floats of scratch that multiplyBlock needs.
static inline uint64_t multiplyBlockScratch(size_t m, size_t n, size_t k) { return (uint64_t{roundUp(m, lanes)} + roundUp(n, lanes)) * smaller(k, depthBlock); }

// c [m, n] (+)= a [m, k] b [k, n] on the calling thread; `packing` holds multiplyBlockScratch(m, n, k) floats.
template <bool bf16>
static inline void multiplyBlock(size_t m, size_t n, size_t k, const Matrix& a, const Matrix& b, float* c, size_t cRow, bool accumulate, float* packing) {
  float *packedA = packing, *packedB = packing + roundUp(m, lanes) * smaller(k, depthBlock);
  for (size_t p = 0; p == 0 || p < k; p += depthBlock) {
    const size_t depth = smaller(depthBlock, k - p);
    packRows<bf16>(m, depth, {a.data + p * a.column, a.row, a.column}, packedA);
    packColumns<bf16>(n, depth, {b.data + p * b.row, b.row, b.column}, packedB);
    multiplyPanels<PanelProduct<bf16>>(m, n, depth, packedA, packedB, c, cRow, 0, 0, accumulate || p > 0, nullptr);
  }
}

// Packs b [k, n] for multiplyRows, into packedSize(n, k) floats.
static inline uint64_t packedSize(size_t n, size_t k) { return uint64_t{roundUp(n, lanes)} * k; }
template <bool bf16> static inline void packForRows(size_t n, size_t k, const Matrix& b, float* packed) {
  for (size_t p = 0; p < k; p += depthBlock) {
    packColumns<bf16>(n, smaller(depthBlock, k - p), {b.data + p * b.row, b.row, b.column}, packed + p * roundUp(n, lanes));
  }
}

// Rows as multiplyRows takes them.
struct Rows {
  const float* data;
  size_t stride;
};
// Rows of k floats for multiplyRows: in f32 where they lie, in bf16 rounded into `rounded`, whose rows are `roundedStride` (k rounded up to
// whole vectors at least) apart and which may be the rows themselves.
template <bool bf16> static inline Rows rowsFor(size_t m, size_t k, const Rows& rows, float* rounded, size_t roundedStride) {
  if constexpr (!bf16) return rows;
  for (size_t i = 0; i < m; i++) roundRow(rows.data + i * rows.stride, k, rounded + i * roundedStride);
  return {rounded, roundedStride};
}

// c [m, n] = a b on the calling thread, for a few rows (m <= tileRows) from rowsFor; b from packForRows with this n and k.
template <bool bf16> static inline void multiplyRows(size_t m, size_t n, size_t k, const Rows& a, const float* b, float* c, size_t cRow) {
  using Product = PanelProduct<bf16>;
  for (size_t p = 0; p == 0 || p < k; p += depthBlock) {
    const size_t depth = smaller(depthBlock, k - p);
    const float* panels = b + p * roundUp(n, lanes);
    for (size_t j = 0; j < n; j += tileColumns) {
      const size_t columns = smaller(tileColumns, n - j);
      tileKernel<Product, false>(m, columns)(depth, a.data + p / Product::group, a.stride, panels + j * depth, c + j, cRow, columns, p > 0);
    }
  }
}

// ------------------------------------------------------------------ on all threads

// c [m, n] (+)= a b, row-major and dense. The operand with the fewer outputs is packed once and shared; each task packs its own part
// of the other, so that nothing is packed twice.
template <bool bf16>
inline void multiply(Context& context, size_t m, size_t n, size_t k, const Matrix& a, const Matrix& b, float* c, bool accumulate, const Epilogue& epilogue) {
  if (m == 0 || n == 0) return;
  const bool byRows = m >= n;  // what tasks divide between them
  const size_t shared = byRows ? n : m, divided = byRows ? m : n;
  const size_t sharedUnit = byRows ? tileColumns : tileRows, dividedUnit = byRows ? tileRows : tileColumns;

  // A task of less than about 10 us is not worth handing to another thread; more than a few tasks a thread balance no better.
  constexpr double smallestTask = 4e5, sharedLimit = 4 << 20;  // multiply-adds; floats
  const double work = static_cast<double>(shared) * static_cast<double>(k + 1);
  const size_t worthwhile = static_cast<size_t>(smallestTask / work) + 1, balanced = divided / (8 * static_cast<size_t>(context.threads));
  size_t step = roundUp(worthwhile > smaller(balanced, 96) ? worthwhile : smaller(balanced, 96), dividedUnit);
  step = smaller(step, roundUp(divided, dividedUnit));

  const size_t sharedWidth = roundUp(shared, lanes);
  size_t chunk = static_cast<size_t>(sharedLimit / static_cast<double>(sharedWidth)) / depthBlock * depthBlock;
  if (chunk < depthBlock) chunk = depthBlock;
  float* sharedPanels = static_cast<float*>(context.scratch(&context, context.threads, sharedWidth * smaller(chunk, k) * sizeof(float)));

  for (size_t from = 0; from == 0 || from < k; from += chunk) {
    const size_t to = smaller(from + chunk, k), blocks = (to - from + depthBlock - 1) / depthBlock;
    // Panels of one piece: enough to be worth a task.
    const size_t piece = roundUp(smaller(256, shared), sharedUnit), pieces = (shared + piece - 1) / piece;
    const size_t grain = divided * shared < 64 * 64 || (to - from) * shared < 65536 ? blocks * pieces : 1;
    parallelRanges(context, blocks * pieces, grain, [&](size_t begin, size_t end, int) {
      for (size_t index = begin; index < end; index++) {
        const size_t p = index / pieces * depthBlock, first = index % pieces * piece, depth = smaller(depthBlock, to - from - p), count = smaller(piece, shared - first);
        float* packed = sharedPanels + p * sharedWidth + first * depth;
        if (byRows) packColumns<bf16>(count, depth, {b.data + (from + p) * b.row + first * b.column, b.row, b.column}, packed);
        else packRows<bf16>(count, depth, {a.data + first * a.row + (from + p) * a.column, a.row, a.column}, packed);
      }
    });
    parallelRanges(context, divided, step, [&](size_t begin, size_t end, int worker) {
      const size_t count = end - begin;
      float* own = static_cast<float*>(context.scratch(&context, worker, roundUp(count, lanes) * smaller(depthBlock, to - from) * sizeof(float)));
      for (size_t p = from; p == from || p < to; p += depthBlock) {
        const size_t depth = smaller(depthBlock, to - p);
        const float* panels = sharedPanels + (p - from) * sharedWidth;
        const Epilogue* last = epilogue.any() && p + depth == k ? &epilogue : nullptr;
        if (byRows) {
          packRows<bf16>(count, depth, {a.data + begin * a.row + p * a.column, a.row, a.column}, own);
          multiplyPanels<PanelProduct<bf16>>(count, n, depth, own, panels, c, n, begin, 0, accumulate || p > 0, last);
        } else {
          packColumns<bf16>(count, depth, {b.data + p * b.row + begin * b.column, b.row, b.column}, own);
          multiplyPanels<PanelProduct<bf16>>(m, count, depth, panels, own, c, n, 0, begin, accumulate || p > 0, last);
        }
      }
    });
  }
}
