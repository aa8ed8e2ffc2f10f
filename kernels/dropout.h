// Dropout by a counter-based rule (src/backend/dropout.ts): element i is kept if the top 24 bits of
// fmix32(fmix32(i) ^ key) reach probability 2^24, and what is kept is multiplied by `scale`.
struct DropoutRule {
  uint32_t key;
  int32_t threshold;
  float scale;
  DropoutRule(double probability, double keyNumber) : key(static_cast<uint32_t>(keyNumber)), scale(static_cast<float>(1 / (1 - probability))) {
    const double limit = probability * 16777216.0;
    threshold = static_cast<int32_t>(limit);
    if (threshold < limit) threshold++;
  }
  bool any() const { return threshold > 0; }
  static UFB_INLINE UnsignedVector mix(UnsignedVector h) {
    h = (h ^ (h >> 16)) * 0x85ebca6bu;
    h = (h ^ (h >> 13)) * 0xc2b2ae35u;
    return h ^ (h >> 16);
  }
  // Which of the elements first, first + 1, ... are kept.
  UFB_INLINE IntVector keeps(uint32_t first) const {
    const UnsignedVector index = reinterpret_cast<UnsignedVector>(laneNumbers()) + first;
    return reinterpret_cast<IntVector>(mix(mix(index) ^ key) >> 8) >= threshold;
  }
  // What they are multiplied by.
  UFB_INLINE Vector factors(uint32_t first) const { return select(keeps(first), splat(scale), zero()); }
};

inline void dropout(Context& context, const Arguments& a) {
  const float* input = a.floats(0);
  float* output = a.floats(1);
  const DropoutRule rule(a.numbers[1], a.numbers[2]);
  // Selected, not multiplied by 0: what is dropped is 0 even if it was not finite.
  parallelVectors(context, a.count(0), [&](size_t i, size_t n) {
    storeUpTo(output + i, select(rule.keeps(static_cast<uint32_t>(i)), loadUpTo(input + i, n) * splat(rule.scale), zero()), n);
  });
}
