// One row a sequence. Kinds in the contract's order.
enum class PoolKind { first, mean, maximum, logSumExp };

inline void pool(Context& context, const Arguments& a) {
  const float* input = a.floats(0);
  float* output = a.floats(1);
  int32_t* selected = a.integers(2);
  size_t batch = a.count(0), length = a.count(1), width = a.count(2);
  PoolKind kind = static_cast<PoolKind>(a.count(3));
  parallel(context, batch, [&](size_t b, int) {
    const float* sequence = input + b * length * width;
    float* y = output + b * width;
    eachVector(0, width, [&](size_t i, size_t n) {
      Vector first = loadUpTo(sequence + i, n), best = first, sum = first;
      IntVector at{};
      for (size_t t = 1; t < length && kind != PoolKind::first; t++) {
        Vector x = loadUpTo(sequence + t * width + i, n);
        sum += x;
        at = x > best ? static_cast<int32_t>(t) - IntVector{} : at;
        best = maximum(x, best);
      }
      if (kind == PoolKind::mean) sum *= splat(1.0f / static_cast<float>(length));
      if (kind == PoolKind::logSumExp) {
        sum = zero();
        for (size_t t = 0; t < length; t++) sum += exponential(loadUpTo(sequence + t * width + i, n) - best);
        sum = logarithm(sum) + best;
      }
      storeUpTo(y + i, kind == PoolKind::first ? first : kind == PoolKind::maximum ? best : sum, n);
      if (kind == PoolKind::maximum && selected) __builtin_memcpy(selected + b * width + i, &at, n * 4);
    });
  });
}

inline void poolBackward(Context& context, const Arguments& a) {
  const float *gradOutput = a.floats(0), *input = a.floats(2), *output = a.floats(3);
  float* gradInput = a.floats(1);
  const int32_t* selected = a.integers(4);
  size_t batch = a.count(0), length = a.count(1), width = a.count(2);
  PoolKind kind = static_cast<PoolKind>(a.count(3));
  float share = 1.0f / static_cast<float>(length);
  parallel(context, batch, [&](size_t b, int) {
    for (size_t t = 0; t < length; t++) {
      float* dx = gradInput + (b * length + t) * width;
      eachVector(0, width, [&](size_t i, size_t n) {
        Vector gradient = loadUpTo(gradOutput + b * width + i, n);
        if (kind == PoolKind::first && t > 0) gradient = zero();
        if (kind == PoolKind::mean) gradient *= splat(share);
        if (kind == PoolKind::maximum) {
          IntVector at{};
          __builtin_memcpy(&at, selected + b * width + i, n * 4);
          gradient = select(at == static_cast<int32_t>(t) - IntVector{}, gradient, zero());
        }
        if (kind == PoolKind::logSumExp) {
          gradient *= exponential(loadUpTo(input + (b * length + t) * width + i, n) - loadUpTo(output + b * width + i, n));
        }
        storeUpTo(dx + i, gradient, n);
      });
    }
  });
}
