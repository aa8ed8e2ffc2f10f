// Operations on every element by itself, and the two ways in which kernels go through arrays.

// Elements of a piece of work: large enough to be worth handing over, small enough to stay in the caches.
constexpr size_t pieceSize = 16384;

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

inline void fill(Context& context, const Arguments& a) {
  float* output = a.floats(0);
  const Vector value = splat(a.number(1));
  parallelVectors(context, a.count(0), [&](size_t i, size_t n) { storeUpTo(output + i, value, n); });
}

inline void fillIntegers(Context& context, const Arguments& a) {
  int32_t* output = a.integers(0);
  const int32_t value = static_cast<int32_t>(a.numbers[1]);
  parallelRanges(context, a.count(0), pieceSize, [&](size_t begin, size_t end, int) {
    for (size_t i = begin; i < end; i++) output[i] = value;
  });
}

inline void copy(Context& context, const Arguments& a) {
  const float* input = a.floats(0);
  float* output = a.floats(1);
  parallelRanges(context, a.count(0), pieceSize, [&](size_t begin, size_t end, int) { __builtin_memmove(output + begin, input + begin, (end - begin) * 4); });
}

inline void add(Context& context, const Arguments& a) {
  const float *left = a.floats(0), *right = a.floats(1);
  float* output = a.floats(2);
  const Vector scale = splat(a.number(1));
  parallelVectors(context, a.count(0), [&](size_t i, size_t n) { storeUpTo(output + i, multiplyAdd(scale, loadUpTo(right + i, n), loadUpTo(left + i, n)), n); });
}

inline void addRow(Context& context, const Arguments& a) {
  const float* row = a.floats(0);
  float* output = a.floats(1);
  const size_t rows = a.count(0), width = a.count(1), grain = width > pieceSize ? 1 : pieceSize / (width > 0 ? width : 1);
  const Vector scale = splat(a.number(2));
  parallelRanges(context, rows, grain, [&](size_t begin, size_t end, int) {
    for (size_t r = begin; r < end; r++) {
      float* y = output + r * width;
      eachVector(0, width, [&](size_t i, size_t n) { storeUpTo(y + i, multiplyAdd(scale, loadUpTo(row + i, n), loadUpTo(y + i, n)), n); });
    }
  });
}

inline void gelu(Context& context, const Arguments& a) {
  const float* input = a.floats(0);
  float* output = a.floats(1);
  parallelVectors(context, a.count(0), [&](size_t i, size_t n) { storeUpTo(output + i, geluValue(loadUpTo(input + i, n)), n); });
}

inline void geluBackward(Context& context, const Arguments& a) {
  const float *input = a.floats(0), *gradOutput = a.floats(1);
  float* gradInput = a.floats(2);
  parallelVectors(context, a.count(0), [&](size_t i, size_t n) { storeUpTo(gradInput + i, loadUpTo(gradOutput + i, n) * geluSlope(loadUpTo(input + i, n)), n); });
}

inline void relu(Context& context, const Arguments& a) {
  const float* input = a.floats(0);
  float* output = a.floats(1);
  // Selected where it is not above 0, so that what is no number stays none.
  parallelVectors(context, a.count(0), [&](size_t i, size_t n) {
    const Vector x = loadUpTo(input + i, n);
    storeUpTo(output + i, select(x <= zero(), zero(), x), n);
  });
}

inline void reluBackward(Context& context, const Arguments& a) {
  const float *output = a.floats(0), *gradOutput = a.floats(1);
  float* gradInput = a.floats(2);
  parallelVectors(context, a.count(0), [&](size_t i, size_t n) {
    storeUpTo(gradInput + i, select(loadUpTo(output + i, n) > zero(), loadUpTo(gradOutput + i, n), zero()), n);
  });
}

inline void tanhForward(Context& context, const Arguments& a) {
  const float* input = a.floats(0);
  float* output = a.floats(1);
  parallelVectors(context, a.count(0), [&](size_t i, size_t n) { storeUpTo(output + i, hyperbolicTangent(loadUpTo(input + i, n)), n); });
}

inline void tanhBackward(Context& context, const Arguments& a) {
  const float *output = a.floats(0), *gradOutput = a.floats(1);
  float* gradInput = a.floats(2);
  parallelVectors(context, a.count(0), [&](size_t i, size_t n) {
    const Vector y = loadUpTo(output + i, n);
    storeUpTo(gradInput + i, loadUpTo(gradOutput + i, n) * (splat(1.0f) - y * y), n);
  });
}

inline void dropout(Context& context, const Arguments& a) {
  const float* input = a.floats(0);
  float* output = a.floats(1);
  const DropoutRule rule(a.numbers[1], a.numbers[2]);
  // Selected, not multiplied by 0: what is dropped is 0 even if it was not finite.
  parallelVectors(context, a.count(0), [&](size_t i, size_t n) {
    storeUpTo(output + i, select(rule.keeps(static_cast<uint32_t>(i)), loadUpTo(input + i, n) * splat(rule.scale), zero()), n);
  });
}
