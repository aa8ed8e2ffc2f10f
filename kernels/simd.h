// One vector of floats, as wide as the instruction set allows, over GCC's and Clang's vector extension. Included inside the
// namespace of an instruction set (see instruction_set.cc), hence no #pragma once here and no includes.

#if defined(__AVX512F__)
constexpr int lanes = 16;
#elif defined(__AVX__)
constexpr int lanes = 8;
#else
constexpr int lanes = 4;
#endif

typedef float Vector __attribute__((vector_size(lanes * 4)));
typedef int32_t IntVector __attribute__((vector_size(lanes * 4)));
typedef uint32_t UnsignedVector __attribute__((vector_size(lanes * 4)));

#define UFB_INLINE inline __attribute__((always_inline))

UFB_INLINE Vector load(const float* p) { Vector v; __builtin_memcpy(&v, p, sizeof v); return v; }
UFB_INLINE void store(float* p, Vector v) { __builtin_memcpy(p, &v, sizeof v); }
UFB_INLINE Vector splat(float x) { return x - Vector{}; }
UFB_INLINE Vector zero() { return Vector{}; }

// The first n lanes (0 <= n < lanes), the others zero.
UFB_INLINE Vector loadPart(const float* p, size_t n) { Vector v{}; __builtin_memcpy(&v, p, n * 4); return v; }
UFB_INLINE void storePart(float* p, Vector v, size_t n) { __builtin_memcpy(p, &v, n * 4); }

// a b + c: contracted to one fused instruction where there is one (-ffp-contract=fast).
UFB_INLINE Vector multiplyAdd(Vector a, Vector b, Vector c) { return a * b + c; }

UFB_INLINE Vector maximum(Vector a, Vector b) { return a > b ? a : b; }
UFB_INLINE Vector minimum(Vector a, Vector b) { return a < b ? a : b; }
UFB_INLINE Vector select(IntVector mask, Vector a, Vector b) { return mask ? a : b; }

// Sums of all lanes, always in the same order (halves folded onto each other).
UFB_INLINE float sumLanes(Vector v) {
  float x[lanes];
  __builtin_memcpy(x, &v, sizeof v);
  for (int width = lanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) x[i] += x[i + width];
  return x[0];
}

// a . b over n elements: four partial sums, then a fixed fold. This one order is what every routing decision is made by.
UFB_INLINE float dot(const float* a, const float* b, size_t n) {
  Vector s0 = zero(), s1 = zero(), s2 = zero(), s3 = zero();
  size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    s0 = multiplyAdd(load(a + i), load(b + i), s0);
    s1 = multiplyAdd(load(a + i + lanes), load(b + i + lanes), s1);
    s2 = multiplyAdd(load(a + i + 2 * lanes), load(b + i + 2 * lanes), s2);
    s3 = multiplyAdd(load(a + i + 3 * lanes), load(b + i + 3 * lanes), s3);
  }
  for (; i + lanes <= n; i += lanes) s0 = multiplyAdd(load(a + i), load(b + i), s0);
  if (i < n) s1 = multiplyAdd(loadPart(a + i, n - i), loadPart(b + i, n - i), s1);
  return sumLanes((s0 + s1) + (s2 + s3));
}

// y += scale x over n elements.
UFB_INLINE void addScaled(float* y, float scale, const float* x, size_t n) {
  Vector s = splat(scale);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) store(y + i, multiplyAdd(s, load(x + i), load(y + i)));
  if (i < n) storePart(y + i, multiplyAdd(s, loadPart(x + i, n - i), loadPart(y + i, n - i)), n - i);
}
