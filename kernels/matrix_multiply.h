// Matrix multiplication: c [m, n] (+)= a [m, k] b [k, n], a and b with any strides, c row-major.
//
// Both operands are packed (but for the few rows of multiplyRows) into panels that the tile kernel reads in order (Goto and van
// de Geijn, "Anatomy of high-performance matrix multiplication", 2008): a in panels of `tileRows` rows, b in panels of `tileColumns` columns, `depthBlock` deep.
// The sum over k of every element has one order, whatever m, n, the threads and the element's place: within a depth block one
// chain of multiply-adds, block after block added to c. A row therefore answers the same bits alone as in a batch.
//
// With `bf16` both operands are rounded to bf16 (to nearest, ties to even), where they are packed or by rowsFor, and their products summed in f32: by
// instructions that take pairs of neighbors in k where the processor has them, else as floats.

// What happens to a finished output: + bias [n], then preActivation (laid out as c) keeps it, then GELU.
struct Epilogue {
  const float* bias;
  bool gelu;
  float* preActivation;
  bool any() const { return bias || gelu; }
};

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
