// One value for every element.

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
