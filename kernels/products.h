// What products of matrices are made of, in each precision.

// What one instruction takes: `group` numbers of an input row (Left) and of each of `lanes` outputs (Right).
struct FloatProduct {
  static constexpr size_t group = 1;
  static constexpr bool rounds = false;
  using Left = float;
  using Right = float;
  using Sum = Vector;
  static UFB_INLINE Vector right(const Right* p) { return load(p); }
  static UFB_INLINE Vector multiply(Left left, Vector right, Vector sum) { return multiplyAdd(splat(left), right, sum); }
};

struct Bf16Product {
  static constexpr size_t group = 2;
  static constexpr bool rounds = true;
  using Right = uint16_t;
  using Sum = Vector;
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
};

struct Int8Product {
  static constexpr bool rounds = true;
  using Left = int32_t;
  using Right = uint8_t;
  using Sum = IntVector;
#if defined(__AVX512VNNI__)
  static constexpr size_t group = 4;
  static UFB_INLINE IntVector right(const Right* p) { return reinterpret_cast<IntVector>(loadWords(p)); }
  static UFB_INLINE IntVector multiply(Left left, IntVector right, IntVector sum) { return __builtin_ia32_vpdpbusd_v16si(sum, right, left - IntVector{}); }
#else
  static constexpr size_t group = 2;
  static UFB_INLINE ShortVector right(const Right* p) {
    HalfUnsignedByteVector bytes;
    __builtin_memcpy(&bytes, p, sizeof bytes);
    return reinterpret_cast<ShortVector>(__builtin_convertvector(bytes, UnsignedShortVector));
  }
  static UFB_INLINE IntVector multiply(Left left, ShortVector right, IntVector sum) {
    return sum + multiplyAddPairs(reinterpret_cast<ShortVector>(left - IntVector{}), right);
  }
#endif
};
