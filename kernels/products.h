// What products of matrices are made of, in each precision.

// What one instruction takes: `group` numbers of an input row (Left) and of each of `lanes` outputs (Right).
struct FloatProduct {
  static constexpr size_t group = 1;
  static constexpr bool rounds = false, pairs = false;
  using Left = float;
  using Right = float;
  using Sum = Vector;
  static UFB_INLINE Vector right(const Right* p) { return load(p); }
  static UFB_INLINE Vector multiply(Left left, Vector right, Vector sum) { return multiplyAdd(splat(left), right, sum); }
};

// Arm multiplies two rows by two outputs in one instruction, 16 bytes of each: eight numbers in i8, four in bf16.
#if defined(__ARM_FEATURE_MATMUL_INT8) && defined(__ARM_FEATURE_BF16)
#define UFB_MATRIX_INSTRUCTIONS
#endif

struct Bf16Product {
  static constexpr bool rounds = true;
  using Right = uint16_t;
  using Sum = Vector;
#if defined(UFB_MATRIX_INSTRUCTIONS)
  static constexpr bool pairs = true;
  static constexpr size_t group = 4;
  using Left = uint64_t;
  // Lanes: first row by first output, first by second, second by first, second by second.
  static UFB_INLINE Vector multiply(uint8x16_t left, uint8x16_t right, Vector sum) {
    return reinterpret_cast<Vector>(vbfmmlaq_f32(reinterpret_cast<float32x4_t>(sum), vreinterpretq_bf16_u8(left), vreinterpretq_bf16_u8(right)));
  }
#else
  static constexpr bool pairs = false;
  static constexpr size_t group = 2;
  static UFB_INLINE UnsignedVector right(const Right* p) { return loadWords(p); }
#if defined(__AVX512BF16__)
  using Left = uint32_t;
  static UFB_INLINE Vector multiply(const Left& left, UnsignedVector right, Vector sum) {
    return multiplyAddBf16Words(left - UnsignedVector{}, right, sum);
  }
#else
  struct Left {
    float low, high;
  };
  static UFB_INLINE Vector multiply(const Left& left, UnsignedVector right, Vector sum) {
    return multiplyAdd(splat(left.high), upperBf16(right), multiplyAdd(splat(left.low), lowerBf16(right), sum));
  }
#endif
#endif
};

struct Int8Product {
  static constexpr bool rounds = true;
  using Right = uint8_t;
  using Sum = IntVector;
#if defined(UFB_MATRIX_INSTRUCTIONS)
  static constexpr bool pairs = true;
  static constexpr size_t group = 8;
  using Left = uint64_t;
  static UFB_INLINE IntVector multiply(uint8x16_t left, uint8x16_t right, IntVector sum) {
    return reinterpret_cast<IntVector>(vmmlaq_s32(reinterpret_cast<int32x4_t>(sum), vreinterpretq_s8_u8(left), vreinterpretq_s8_u8(right)));
  }
#else
  static constexpr bool pairs = false;
  using Left = int32_t;
#if defined(__AVX512VNNI__)
  static constexpr size_t group = 4;
  static UFB_INLINE IntVector right(const Right* p) { return reinterpret_cast<IntVector>(loadWords(p)); }
  static UFB_INLINE IntVector multiply(Left left, IntVector right, IntVector sum) { return multiplyAddWords(right, left - IntVector{}, sum); }
#elif defined(__ARM_FEATURE_DOTPROD)
  static constexpr size_t group = 4;
  static UFB_INLINE IntVector right(const Right* p) { return reinterpret_cast<IntVector>(loadWords(p)); }
  static UFB_INLINE IntVector multiply(Left left, IntVector right, IntVector sum) {
    const int8x16_t a = reinterpret_cast<int8x16_t>(right), b = reinterpret_cast<int8x16_t>(left - IntVector{});
    return reinterpret_cast<IntVector>(vdotq_s32(reinterpret_cast<int32x4_t>(sum), a, b));
  }
#else
  static constexpr size_t group = 2;
  static UFB_INLINE ShortVector right(const Right* p) { return widenWeights(p); }
  static UFB_INLINE IntVector multiply(Left left, ShortVector right, IntVector sum) {
    return sum + multiplyAddPairs(reinterpret_cast<ShortVector>(left - IntVector{}), right);
  }
#endif
#endif
};
