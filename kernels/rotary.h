// Rotary position embedding (see src/backend/operations/rotary.ts), in place.

inline void rotary(Context& context, const Arguments& a) {
  const float* rotation = a.floats(1);
  float* x = a.floats(0) + a.count(4);
  const size_t rows = a.count(0), heads = a.count(1), half = a.count(2), rowStride = a.count(6), headStride = a.count(7);
  const Vector direction = splat(a.flag(3) ? -1.0f : 1.0f);
  parallelRanges(context, rows, pieceSize / (heads * half + 1) + 1, [&](size_t begin, size_t end, int) {
    for (size_t t = begin; t < end; t++) {
      const float *cosine = rotation + t * 2 * half, *sine = cosine + half;
      for (size_t h = 0; h < heads; h++) {
        float *first = x + t * rowStride + h * headStride, *second = first + half;
        eachVector(0, half, [&](size_t i, size_t n) {
          const Vector u = loadUpTo(first + i, n), v = loadUpTo(second + i, n), c = loadUpTo(cosine + i, n), s = loadUpTo(sine + i, n) * direction;
          storeUpTo(first + i, u * c - v * s, n);
          storeUpTo(second + i, multiplyAdd(u, s, v * c), n);
        });
      }
    }
  });
}
