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

#if defined(__clang__) || __GNUC__ >= 12
#define UFB_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define UFB_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, decltype(a == b){__VA_ARGS__})
#endif

UFB_INLINE Vector load(const float* p) { Vector v; __builtin_memcpy(&v, p, sizeof v); return v; }
UFB_INLINE void store(float* p, Vector v) { __builtin_memcpy(p, &v, sizeof v); }
UFB_INLINE Vector splat(float x) { return x - Vector{}; }
UFB_INLINE Vector zero() { return Vector{}; }

// 0, 1, 2, ...
UFB_INLINE IntVector laneNumbers() {
  IntVector index;
  for (int i = 0; i < lanes; i++) index[i] = i;
  return index;
}
// Lane i is all ones if i < n.
UFB_INLINE IntVector firstLanes(size_t n) { return laneNumbers() < static_cast<int32_t>(n) - IntVector{}; }
UFB_INLINE Vector keepFirst(Vector v, size_t n) { return reinterpret_cast<Vector>(reinterpret_cast<IntVector>(v) & firstLanes(n)); }

// The first n lanes (0 <= n <= lanes), the others zero; nothing beyond them is touched.
#if defined(__AVX512F__)
UFB_INLINE Vector loadPart(const float* p, size_t n) { return __builtin_ia32_loadups512_mask(p, Vector{}, static_cast<uint16_t>((1u << n) - 1)); }
UFB_INLINE void storePart(float* p, Vector v, size_t n) { __builtin_ia32_storeups512_mask(p, v, static_cast<uint16_t>((1u << n) - 1)); }
#elif defined(__AVX__)
UFB_INLINE Vector loadPart(const float* p, size_t n) { return __builtin_ia32_maskloadps256(reinterpret_cast<const Vector*>(p), firstLanes(n)); }
UFB_INLINE void storePart(float* p, Vector v, size_t n) { __builtin_ia32_maskstoreps256(reinterpret_cast<Vector*>(p), firstLanes(n), v); }
#else
UFB_INLINE Vector loadPart(const float* p, size_t n) { Vector v{}; __builtin_memcpy(&v, p, n * 4); return v; }
UFB_INLINE void storePart(float* p, Vector v, size_t n) { __builtin_memcpy(p, &v, n * 4); }
#endif

// a b + c: contracted to one fused instruction where there is one (-ffp-contract=fast). A c that is a product needs roundedProduct
// (quantize.h), or the compiler may fuse that instead.
#if defined(__wasm_relaxed_simd__)
UFB_INLINE Vector multiplyAdd(Vector a, Vector b, Vector c) { return __builtin_wasm_relaxed_madd_f32x4(a, b, c); }
#else
UFB_INLINE Vector multiplyAdd(Vector a, Vector b, Vector c) { return a * b + c; }
#endif

UFB_INLINE Vector maximum(Vector a, Vector b) { return a > b ? a : b; }
UFB_INLINE Vector select(IntVector mask, Vector a, Vector b) { return mask ? a : b; }

// All lanes into one, always in the same order: halves folded onto each other. By shuffles, since lanes taken out of memory would keep a
// loop's sum there. Lanes beyond what is still to be folded hold leftovers.
template <class Fold> UFB_INLINE float foldLanes(Vector v, Fold&& fold) {
#if defined(__AVX512F__)
  v = fold(v, UFB_SHUFFLE(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  v = fold(v, UFB_SHUFFLE(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3));
  v = fold(v, UFB_SHUFFLE(v, v, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1));
  v = fold(v, UFB_SHUFFLE(v, v, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0));
#elif defined(__AVX__)
  v = fold(v, UFB_SHUFFLE(v, v, 4, 5, 6, 7, 0, 1, 2, 3));
  v = fold(v, UFB_SHUFFLE(v, v, 2, 3, 0, 1, 2, 3, 0, 1));
  v = fold(v, UFB_SHUFFLE(v, v, 1, 0, 1, 0, 1, 0, 1, 0));
#else
  v = fold(v, UFB_SHUFFLE(v, v, 2, 3, 0, 1));
  v = fold(v, UFB_SHUFFLE(v, v, 1, 0, 1, 0));
#endif
  return v[0];
}
UFB_INLINE float sumLanes(Vector v) {
  return foldLanes(v, [](Vector a, Vector b) { return a + b; });
}
UFB_INLINE float maximumLane(Vector v) {
  return foldLanes(v, [](Vector a, Vector b) { return maximum(a, b); });
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
