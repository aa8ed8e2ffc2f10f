// Rows of 8-bit integers with a scale (see PreparedWeight): s = max |x| / 127, q = x (127 / max |x|) to nearest, ties to even.

enum class Precision { f32, bf16, i8 };  // as operations number them

// Rounds a product before it is used: without it the compiler may fuse it with the addition that follows, and ties would fall otherwise.
UFB_INLINE Vector roundedProduct(Vector v) {
#if defined(__x86_64__)
  asm("" : "+v"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#endif
  return v;
}

struct RowScale {
  float scale;    // 0 for a row of zeros
  float inverse;  // 127 / max |x|, or 0 where that is infinite: below 3.7e-37
};

// A row that holds a NaN or an infinity has a scale that is not finite.
inline RowScale rowScale(const float* row, size_t count) {
  Vector most = zero(), strange = zero();
  eachVector(0, count, [&](size_t i, size_t n) {
    const Vector x = loadUpTo(row + i, n);
    most = maximum(most, absolute(x));
    strange += x - x;  // 0, or NaN
  });
  const float top = maximumLane(most) + sumLanes(strange);
  const float inverse = 127.0f / top;
  return {top / 127.0f, inverse == __builtin_inff() ? 0.0f : inverse};
}

typedef int8_t ByteVector __attribute__((vector_size(lanes)));

// Writes `padded` bytes, zeros beyond the row; offset is added to each (128 makes them unsigned). Returns the sum of the integers without it.
inline int32_t quantizeRow(const float* row, size_t count, size_t padded, float inverse, int offset, uint8_t* to) {
  const Vector rounder = splat(12582912.0f), factor = splat(inverse);  // 1.5 2^23: adding it rounds to an integer
  IntVector sum{};
  for (size_t i = 0; i < padded; i += lanes) {
    const Vector x = i < count ? loadUpTo(row + i, smaller(lanes, count - i)) : zero();
    const IntVector q = bitsOf(roundedProduct(x * factor) + rounder) - bitsOf(rounder);
    sum += q;
    const ByteVector bytes = __builtin_convertvector(q + offset, ByteVector);
    __builtin_memcpy(to + i, &bytes, sizeof bytes);
  }
  int32_t total = 0;
  for (int i = 0; i < lanes; i++) total += sum[i];
  return total;
}

// What is added to i8 weights where they are stored. x86 multiplies unsigned bytes by signed ones, Arm signed ones.
#if defined(__aarch64__)
constexpr int weightOffset = 0;
#else
constexpr int weightOffset = 128;
#endif

// A row that meets i8 weights; `sum` takes the offset of the weights back.
struct QuantizedInput {
  float scale;
  int32_t sum;
};
inline QuantizedInput quantizeInputRow(const float* row, size_t count, int8_t* to) {
  const RowScale scale = rowScale(row, count);
  return {scale.scale, quantizeRow(row, count, roundUp(count, 64), scale.inverse, 0, reinterpret_cast<uint8_t*>(to))};
}

// sum + products of 4 lanes bytes of weights with as many of an input, four neighbors (or all, in some order) to a lane; exact.
#if defined(__AVX512VNNI__)
// The four unsigned bytes of each word of a by the four signed ones of b.
UFB_INLINE IntVector multiplyAddWords(IntVector a, IntVector b, IntVector sum) {
  return reinterpret_cast<IntVector>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
}
UFB_INLINE IntVector multiplyAddBytes(const uint8_t* weights, const int8_t* x, IntVector sum) {
  return multiplyAddWords(reinterpret_cast<IntVector>(loadWords(weights)), reinterpret_cast<IntVector>(loadWords(x)), sum);
}
#else
typedef int8_t HalfByteVector __attribute__((vector_size(lanes * 2)));
typedef int16_t ShortVector __attribute__((vector_size(lanes * 4)));
typedef uint16_t UnsignedShortVector __attribute__((vector_size(lanes * 4)));
typedef uint8_t HalfUnsignedByteVector __attribute__((vector_size(lanes * 2)));
UFB_INLINE IntVector multiplyAddPairs(ShortVector a, ShortVector b) {
#if defined(__AVX2__)
  return __builtin_ia32_pmaddwd256(a, b);
#elif defined(__SSE2__)
  return __builtin_ia32_pmaddwd128(a, b);
#elif defined(__wasm_simd128__)
  return __builtin_wasm_dot_s_i32x4_i16x8(a, b);
#elif defined(__aarch64__)
  const int16x8_t x = reinterpret_cast<int16x8_t>(a), y = reinterpret_cast<int16x8_t>(b);
  return reinterpret_cast<IntVector>(vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y)));
#else
  const IntVector x = reinterpret_cast<IntVector>(a), y = reinterpret_cast<IntVector>(b);
  return (x >> 16) * (y >> 16) + (x << 16 >> 16) * (y << 16 >> 16);
#endif
}
// 2 lanes bytes of weights, as 16-bit numbers.
UFB_INLINE ShortVector widenWeights(const uint8_t* weights) {
  HalfUnsignedByteVector bytes;
  __builtin_memcpy(&bytes, weights, sizeof bytes);
  if (weightOffset == 0) return __builtin_convertvector(reinterpret_cast<HalfByteVector>(bytes), ShortVector);
  return reinterpret_cast<ShortVector>(__builtin_convertvector(bytes, UnsignedShortVector));
}
#if defined(__aarch64__)
UFB_INLINE IntVector multiplyAddBytes(const uint8_t* weights, const int8_t* x, IntVector sum) {
  const int8x16_t w = vreinterpretq_s8_u8(vld1q_u8(weights)), v = vld1q_s8(x);
  const int32x4_t before = reinterpret_cast<int32x4_t>(sum);
#if defined(__ARM_FEATURE_DOTPROD)
  return reinterpret_cast<IntVector>(vdotq_s32(before, w, v));
#else
  return reinterpret_cast<IntVector>(vpadalq_s16(vpadalq_s16(before, vmull_s8(vget_low_s8(w), vget_low_s8(v))), vmull_high_s8(w, v)));
#endif
}
#else
UFB_INLINE IntVector multiplyAddBytes(const uint8_t* weights, const int8_t* x, IntVector sum) {
  for (int half = 0; half < 2; half++) {
    HalfByteVector v;
    __builtin_memcpy(&v, x + half * 2 * lanes, sizeof v);
    sum += multiplyAddPairs(widenWeights(weights + half * 2 * lanes), __builtin_convertvector(v, ShortVector));
  }
  return sum;
}
#endif
#endif

UFB_INLINE int32_t sumIntegers(IntVector v) {
  int32_t sum = 0;
  for (int i = 0; i < lanes; i++) sum += v[i];
  return sum;
}

// A block of 4 lanes signed bytes, element k lanes + j becoming byte k of word j, so that shifts give vectors of neighbors back.
inline void packBytes(uint8_t* block) {
  uint8_t bytes[4 * lanes];
  __builtin_memcpy(bytes, block, sizeof bytes);
  for (int j = 0; j < lanes; j++)
    for (int k = 0; k < 4; k++) block[4 * j + k] = bytes[k * lanes + j];
}
UFB_INLINE void unpackBytes(const uint8_t* block, Vector* values) {
  IntVector words;
  __builtin_memcpy(&words, block, sizeof words);
  values[0] = __builtin_convertvector(words << 24 >> 24, Vector);
  values[1] = __builtin_convertvector(words << 16 >> 24, Vector);
  values[2] = __builtin_convertvector(words << 8 >> 24, Vector);
  values[3] = __builtin_convertvector(words >> 24, Vector);
}
