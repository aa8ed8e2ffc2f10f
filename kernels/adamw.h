// An optimizer step, and what is cleared behind it.

UFB_INLINE double power(double base, uint64_t exponent) {
  double result = 1;
  for (; exponent > 0; exponent >>= 1, base *= base)
    if (exponent & 1) result *= base;
  return result;
}

UFB_INLINE bool isZero(const float* row, size_t width) {
  constexpr size_t piece = 64;
  for (size_t begin = 0; begin < width; begin += piece) {
    uint32_t bits = 0;
    for (size_t i = begin, end = smaller(begin + piece, width); i < end; i++) {
      uint32_t value;
      __builtin_memcpy(&value, row + i, sizeof value);
      bits |= value << 1;  // without the sign
    }
    if (bits != 0) return false;
  }
  return true;
}

inline void adamw(Context& context, const Arguments& a) {
  float *parameter = a.floats(0), *mean = a.floats(2), *variance = a.floats(3);
  const float *gradient = a.floats(1), *gradientScale = a.floats(5);
  const int32_t* rowMask = a.integers(4);
  const size_t rows = a.count(0), width = a.count(1), step = a.count(7);
  const double learningRate = a.numbers[2], beta1 = a.numbers[3], beta2 = a.numbers[4];
  const Vector keep1 = splat(a.number(3)), keep2 = splat(a.number(4)), take1 = splat(static_cast<float>(1 - beta1)), take2 = splat(static_cast<float>(1 - beta2));
  const Vector decay = splat(static_cast<float>(1 - learningRate * a.numbers[6])), epsilon = splat(a.number(5));
  const Vector rate = splat(static_cast<float>(-learningRate / (1 - power(beta1, step))));
  const Vector correction = splat(static_cast<float>(1 / __builtin_sqrt(1 - power(beta2, step))));
  const Vector scale = splat(gradientScale ? gradientScale[0] : 1.0f);

  const auto update = [&](size_t begin, size_t end, bool hasGradient) {
    eachVector(begin, end, [&](size_t i, size_t n) {
      // Each a product of its own, to which another is added: left to itself the compiler fuses now one, now the other, by who calls.
      Vector m = roundedProduct(loadUpTo(mean + i, n) * keep1), v = roundedProduct(loadUpTo(variance + i, n) * keep2);
      if (hasGradient) {
        const Vector g = loadUpTo(gradient + i, n) * scale;
        m = multiplyAdd(g, take1, m);
        v = multiplyAdd(g * g, take2, v);
      }
      storeUpTo(mean + i, m, n);
      storeUpTo(variance + i, v, n);
      const Vector change = m / multiplyAdd(squareRoot(v), correction, epsilon);
      storeUpTo(parameter + i, multiplyAdd(change, rate, roundedProduct(loadUpTo(parameter + i, n) * decay)), n);
    });
  };
  // What never had a gradient does not move, 0 / epsilon being 0; to read that takes a third of the time of writing it.
  const bool mayRest = a.numbers[6] == 0 && a.number(5) > 0;
  if (!rowMask) parallelRanges(context, rows * width, pieceSize, [&](size_t begin, size_t end, int) { update(begin, end, true); });
  else parallelRanges(context, rows, rowsPerPiece(width), [&](size_t begin, size_t end, int) {
    for (size_t r = begin; r < end; r++) {
      if (!rowMask[r] && mayRest && isZero(mean + r * width, width) && isZero(variance + r * width, width)) continue;
      update(r * width, (r + 1) * width, rowMask[r] != 0);
    }
  });
}
