// The two ways in which kernels go through arrays: by vectors, and by pieces of them.

// Elements of a piece of work: large enough to be worth handing over, small enough to stay in the caches.
constexpr size_t pieceSize = 16384;
// Rows of a piece of work.
UFB_INLINE size_t rowsPerPiece(size_t width) { return width >= pieceSize ? 1 : pieceSize / (width + 1) + 1; }

UFB_INLINE size_t smaller(size_t a, size_t b) { return a < b ? a : b; }
UFB_INLINE size_t roundUp(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// The first n lanes, where n may be all of them.
UFB_INLINE Vector loadUpTo(const float* p, size_t n) { return n == lanes ? load(p) : loadPart(p, n); }
UFB_INLINE void storeUpTo(float* p, Vector v, size_t n) {
  if (n == lanes) store(p, v);
  else storePart(p, v, n);
}

// body(i, n) for vectors of n elements from i on; n is `lanes` except at the end.
template <class Body>
UFB_INLINE void eachVector(size_t begin, size_t end, Body&& body) {
  size_t i = begin;
  for (; i + lanes <= end; i += lanes) body(i, lanes);
  if (i < end) body(i, end - i);
}

template <class Body>
UFB_INLINE void parallelVectors(Context& context, size_t count, Body&& body) {
  parallelRanges(context, count, pieceSize, [&](size_t begin, size_t end, int) { eachVector(begin, end, body); });
}
