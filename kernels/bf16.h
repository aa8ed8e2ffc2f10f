// bf16, the upper half of a float. Two to a word: of a block of 2 lanes elements, word j holds element j below and element lanes + j
// above, so that a shift and a mask give vectors of neighbors back, and products of words are sums over pairs.

UFB_INLINE UnsignedVector bitsUnsigned(Vector v) { return reinterpret_cast<UnsignedVector>(v); }

// The bits of v rounded to bf16 (to nearest, ties to even) in the upper half of each word; the lower half is not cleared. NaN stays NaN.
UFB_INLINE UnsignedVector roundToUpperHalf(Vector v) {
  const UnsignedVector bits = bitsUnsigned(v), rounded = bits + 0x7fffu + (bits >> 16 & 1u);
  return v == v ? rounded : bits | 0x400000u;
}
UFB_INLINE Vector roundToBf16(Vector v) { return reinterpret_cast<Vector>(roundToUpperHalf(v) & 0xffff0000u); }
UFB_INLINE UnsignedVector packBf16(Vector low, Vector high) { return roundToUpperHalf(low) >> 16 | (roundToUpperHalf(high) & 0xffff0000u); }
UFB_INLINE Vector lowerBf16(UnsignedVector words) { return reinterpret_cast<Vector>(words << 16); }
UFB_INLINE Vector upperBf16(UnsignedVector words) { return reinterpret_cast<Vector>(words & 0xffff0000u); }

UFB_INLINE UnsignedVector loadWords(const void* p) { UnsignedVector v; __builtin_memcpy(&v, p, sizeof v); return v; }

// Rows are padded to 64 elements, a multiple of every block, with zeros.
constexpr size_t rowPadding = 64;

inline void packBf16Row(const float* row, size_t count, uint16_t* packed) {
  const size_t padded = roundUp(count, rowPadding);
  for (size_t i = 0; i < padded; i += 2 * lanes) {
    const Vector low = i < count ? loadUpTo(row + i, smaller(lanes, count - i)) : zero();
    const Vector high = i + lanes < count ? loadUpTo(row + i + lanes, smaller(lanes, count - i - lanes)) : zero();
    const UnsignedVector words = packBf16(low, high);
    __builtin_memcpy(packed + i, &words, sizeof words);
  }
}

// A row that meets bf16 weights, rounded as they are: in words where the processor multiplies words, else as floats.
#if defined(__AVX512BF16__)
using Bf16Input = uint16_t;
inline void roundInputRow(const float* row, size_t count, Bf16Input* rounded) { packBf16Row(row, count, rounded); }

#if defined(__clang__) || __GNUC__ >= 13
typedef __bf16 Bf16Vector __attribute__((vector_size(64)));
#else
typedef int16_t Bf16Vector __attribute__((vector_size(64)));
#endif
// The lanes of low, then those of high, two neighbors to a word (packBf16 pairs elements a vector apart); what is denormal becomes 0.
UFB_INLINE Vector pairBf16(Vector low, Vector high) {
#if defined(__clang__)
  return reinterpret_cast<Vector>(__builtin_ia32_cvtne2ps2bf16_512(high, low));
#elif __GNUC__ >= 13
  return reinterpret_cast<Vector>(__builtin_ia32_cvtne2ps2bf16_v32bf(high, low));
#else
  return reinterpret_cast<Vector>(__builtin_ia32_cvtne2ps2bf16_v32hi(high, low));
#endif
}
// sum + the products of both pairs of each word.
UFB_INLINE Vector multiplyAddBf16Words(UnsignedVector other, UnsignedVector words, Vector sum) {
#if defined(__clang__)
  return __builtin_ia32_dpbf16ps_512(sum, reinterpret_cast<Bf16Vector>(other), reinterpret_cast<Bf16Vector>(words));
#else
  return __builtin_ia32_dpbf16ps_v16sf(sum, reinterpret_cast<Bf16Vector>(other), reinterpret_cast<Bf16Vector>(words));
#endif
}
UFB_INLINE Vector multiplyAddBf16(const Bf16Input* x, UnsignedVector words, Vector sum) { return multiplyAddBf16Words(loadWords(x), words, sum); }
#elif defined(__ARM_FEATURE_BF16)
using Bf16Input = uint16_t;
inline void roundInputRow(const float* row, size_t count, Bf16Input* rounded) { packBf16Row(row, count, rounded); }
UFB_INLINE Vector multiplyAddBf16(const Bf16Input* x, UnsignedVector words, Vector sum) {
  const bfloat16x8_t a = reinterpret_cast<bfloat16x8_t>(loadWords(x)), b = reinterpret_cast<bfloat16x8_t>(words);
  return reinterpret_cast<Vector>(vbfdotq_f32(reinterpret_cast<float32x4_t>(sum), a, b));
}
#else
using Bf16Input = float;
inline void roundInputRow(const float* row, size_t count, Bf16Input* rounded) {
  const size_t padded = roundUp(count, rowPadding);
  for (size_t i = 0; i < padded; i += lanes) store(rounded + i, i < count ? roundToBf16(loadUpTo(row + i, smaller(lanes, count - i))) : zero());
}
UFB_INLINE Vector multiplyAddBf16(const Bf16Input* x, UnsignedVector words, Vector sum) {
  return multiplyAdd(load(x + lanes), upperBf16(words), multiplyAdd(load(x), lowerBf16(words), sum));
}
#endif
