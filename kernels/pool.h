// One row a sequence, over the positions that a mask leaves. Kinds in the operation's order.
enum class PoolKind { first, mean, maximum, logSumExp };

// Positions of a sequence that count; all without a mask.
struct PoolPositions {
  const int32_t* mask;  // of the sequence; may be null
  size_t length;
  bool has(size_t t) const { return !mask || mask[t] != 0; }
  // 1 over their number.
  float share() const {
    size_t count = 0;
    for (size_t t = 0; t < length; t++) count += has(t);
    return 1.0f / static_cast<float>(count > 0 ? count : 1);
  }
};

inline void pool(Context& context, const Arguments& a) {
  const float* input = a.floats(0);
  float* output = a.floats(1);
  int32_t* selected = a.integers(2);
  const int32_t* mask = a.integers(3);
  size_t batch = a.count(0), length = a.count(1), width = a.count(2);
  PoolKind kind = static_cast<PoolKind>(a.count(3));
  parallel(context, batch, [&](size_t b, int) {
    const float* sequence = input + b * length * width;
    const PoolPositions positions{mask ? mask + b * length : nullptr, length};
    size_t start = 0;
    while (start < length && !positions.has(start)) start++;
    const float share = positions.share();
    float* y = output + b * width;
    eachVector(0, width, [&](size_t i, size_t n) {
      const auto at = [&](size_t t) { return loadUpTo(sequence + t * width + i, n); };
      if (kind == PoolKind::first) return storeUpTo(y + i, at(0), n);
      Vector best = splat(-__builtin_inff()), sum = zero();
      IntVector place = static_cast<int32_t>(start < length ? start : 0) - IntVector{};
      if (start < length) best = sum = at(start);
      for (size_t t = start + 1; t < length; t++) {
        if (!positions.has(t)) continue;
        const Vector x = at(t);
        sum += x;
        place = x > best ? static_cast<int32_t>(t) - IntVector{} : place;
        best = maximum(x, best);
      }
      if (kind == PoolKind::mean) sum *= splat(share);
      if (kind == PoolKind::logSumExp) {
        sum = zero();
        for (size_t t = start; t < length; t++)
          if (positions.has(t)) sum += exponential(at(t) - best);
        sum = start < length ? logarithm(sum) + best : best;
      }
      storeUpTo(y + i, kind == PoolKind::maximum ? best : sum, n);
      if (kind == PoolKind::maximum && selected) __builtin_memcpy(selected + b * width + i, &place, n * 4);
    });
  });
}

inline void poolBackward(Context& context, const Arguments& a) {
  const float *gradOutput = a.floats(0), *input = a.floats(2), *output = a.floats(3);
  float* gradInput = a.floats(1);
  const int32_t *selected = a.integers(4), *mask = a.integers(5);
  size_t batch = a.count(0), length = a.count(1), width = a.count(2);
  PoolKind kind = static_cast<PoolKind>(a.count(3));
  parallel(context, batch, [&](size_t b, int) {
    const PoolPositions positions{mask ? mask + b * length : nullptr, length};
    const float share = positions.share();
    for (size_t t = 0; t < length; t++) {
      float* dx = gradInput + (b * length + t) * width;
      const bool left = kind == PoolKind::first ? t == 0 : positions.has(t);
      eachVector(0, width, [&](size_t i, size_t n) {
        Vector gradient = loadUpTo(gradOutput + b * width + i, n);
        if (!left) gradient = zero();
        else if (kind == PoolKind::mean) gradient *= splat(share);
        else if (kind == PoolKind::maximum) {
          IntVector at{};
          __builtin_memcpy(&at, selected + b * width + i, n * 4);
          gradient = select(at == static_cast<int32_t>(t) - IntVector{}, gradient, zero());
        } else if (kind == PoolKind::logSumExp) {
          gradient *= exponential(loadUpTo(input + (b * length + t) * width + i, n) - loadUpTo(output + b * width + i, n));
        }
        storeUpTo(dx + i, gradient, n);
      });
    }
  });
}
