// Scaled dot-product attention (see the contract), a head at a time, in blocks of queries that keep their whole rows of scores: the
// scratch is bounded by a block, whatever the query length. The backward computes probabilities again from logSumExp.

UFB_INLINE size_t larger(size_t a, size_t b) { return a > b ? a : b; }

struct AttentionShape {
  size_t batch, heads, headSize, queryLength, keyLength;
  bool causal;
  float scale;
  DropoutRule dropout;
  const int32_t* paddingMask;

  AttentionShape(const Arguments& a)
      : batch(a.count(0)), heads(a.count(1)), headSize(a.count(2)), queryLength(a.count(3)), keyLength(a.count(4)), causal(a.flag(5)),
        scale(1.0f / __builtin_sqrtf(a.number(2))), dropout(a.numbers[6], a.numbers[7]), paddingMask(a.integers(3)) {}

  static constexpr size_t largestBlock = 128;
  // Queries in a block: their scores should fit the second-level cache.
  size_t block() const {
    const size_t rows = 65536 / keyLength / 16 * 16;
    return smaller(queryLength, rows < 64 ? 64 : smaller(rows, largestBlock));
  }
  size_t blocks() const { return (queryLength + block() - 1) / block(); }
  // Elements from one row of scores to the next.
  size_t scoreStride() const { return roundUp(keyLength, 16); }
  size_t visibleKeys(size_t query) const { return causal ? query + 1 + keyLength - queryLength : keyLength; }
  uint32_t element(size_t b, size_t h, size_t query) const {
    return static_cast<uint32_t>(((b * heads + h) * queryLength + query) * keyLength);
  }
};

// One head of one batch element of an operand: rows of headSize.
struct AttentionRows {
  float* data;
  size_t stride;
  AttentionRows(const Arguments& a, int operand, int number, size_t b, size_t h)
      : data(a.floats(operand) + a.count(number) + b * a.count(number + 1) + h * a.count(number + 3)), stride(a.count(number + 2)) {}
  float* row(size_t t) const { return data + t * stride; }
};

// What is added to the scores of each key: 0, or -10000 where it is padding.
inline void keyBias(const AttentionShape& s, size_t b, float* bias) {
  for (size_t j = 0; j < s.keyLength; j++) bias[j] = s.paddingMask && s.paddingMask[b * s.keyLength + j] == 0 ? -10000.0f : 0.0f;
}

// exp(score - maximum) over the first `visible` of `count` scores, the others 0; dropped ones become 0 after they were summed.
struct RowSoftmax {
  float maximum, sum;
};
inline RowSoftmax softmaxRow(const AttentionShape& s, float* scores, const float* bias, size_t visible, size_t count, uint32_t element) {
  const Vector scale = splat(s.scale), lowest = splat(-__builtin_inff());
  Vector best = lowest;
  eachVector(0, visible, [&](size_t j, size_t n) {
    const Vector score = multiplyAdd(loadUpTo(scores + j, n), scale, loadUpTo(bias + j, n));
    storeUpTo(scores + j, score, n);
    best = maximum(best, select(firstLanes(n), score, lowest));
  });
  const float top = maximumLane(best);
  Vector sums = zero();
  eachVector(0, visible, [&](size_t j, size_t n) {
    const Vector e = exponential(loadUpTo(scores + j, n) - splat(top));
    storeUpTo(scores + j, e, n);
    sums += keepFirst(e, n);
  });
  for (size_t j = visible; j < count; j++) scores[j] = 0;
  if (s.dropout.any()) {
    eachVector(0, visible, [&](size_t j, size_t n) {
      storeUpTo(scores + j, select(s.dropout.keeps(element + static_cast<uint32_t>(j)), loadUpTo(scores + j, n), zero()), n);
    });
  }
  return {top, sumLanes(sums)};
}

inline void attention(Context& context, const Arguments& a) {
  const AttentionShape s(a);
  float *output = a.floats(4), *logSumExp = a.floats(5);
  const size_t block = s.block(), blocks = s.blocks(), stride = s.scoreStride(), outputStride = s.heads * s.headSize;
  const size_t packed = larger(multiplyBlockScratch(block, s.keyLength, s.headSize), multiplyBlockScratch(block, s.headSize, s.keyLength));
  parallel(context, s.batch * s.heads * blocks, [&](size_t task, int worker) {
    const size_t b = task / blocks / s.heads, h = task / blocks % s.heads, first = task % blocks * block;
    const size_t queries = first + block < s.queryLength ? block : s.queryLength - first;
    const size_t keys = s.visibleKeys(first + queries - 1);
    const AttentionRows query(a, 0, 8, b, h), key(a, 1, 12, b, h), value(a, 2, 16, b, h);
    char* scratch = static_cast<char*>(context.scratch(&context, worker, takes(block * stride * 4) + takes(stride * 4) + takes(packed * 4)));
    float *scores = take<float>(scratch, block * stride), *bias = take<float>(scratch, stride), *packing = take<float>(scratch, packed);
    float* out = output + (b * s.queryLength + first) * outputStride + h * s.headSize;

    keyBias(s, b, bias);
    multiplyBlock(queries, keys, s.headSize, query.row(first), query.stride, 1, key.data, 1, key.stride, scores, stride, false, packing);
    RowSoftmax rows[AttentionShape::largestBlock];
    for (size_t i = 0; i < queries; i++) rows[i] = softmaxRow(s, scores + i * stride, bias, s.visibleKeys(first + i), keys, s.element(b, h, first + i));
    multiplyBlock(queries, s.headSize, keys, scores, stride, 1, value.data, value.stride, 1, out, outputStride, false, packing);
    for (size_t i = 0; i < queries; i++) {
      float* y = out + i * outputStride;
      const Vector factor = splat(s.dropout.scale / rows[i].sum);
      eachVector(0, s.headSize, [&](size_t c, size_t n) { storeUpTo(y + c, loadUpTo(y + c, n) * factor, n); });
      if (logSumExp) logSumExp[(b * s.heads + h) * s.queryLength + first + i] = rows[i].maximum + logarithm(splat(rows[i].sum))[0];
    }
  });
}

// From scores and the gradients of the probabilities after dropout: probabilities after dropout and the gradients of q . k, in place.
inline void softmaxRowBackward(const AttentionShape& s, float* scores, float* gradients, const float* bias, float logSumExp, float outputDot,
                               size_t visible, size_t count, uint32_t element) {
  const Vector scale = splat(s.scale), shift = splat(logSumExp), dotted = splat(outputDot);
  eachVector(0, visible, [&](size_t j, size_t n) {
    const Vector p = exponential(multiplyAdd(loadUpTo(scores + j, n), scale, loadUpTo(bias + j, n)) - shift);
    Vector kept = p, gradient = loadUpTo(gradients + j, n);
    if (s.dropout.any()) {
      const Vector factor = s.dropout.factors(element + static_cast<uint32_t>(j));
      kept *= factor;
      gradient *= factor;
    }
    storeUpTo(scores + j, kept, n);
    storeUpTo(gradients + j, p * (gradient - dotted) * scale, n);
  });
  for (size_t j = visible; j < count; j++) scores[j] = gradients[j] = 0;
}

inline void attentionBackward(Context& context, const Arguments& a) {
  const AttentionShape s(a);
  const float *output = a.floats(4), *logSumExp = a.floats(5), *gradOutput = a.floats(6);
  const size_t block = s.block(), stride = s.scoreStride(), outputStride = s.heads * s.headSize;
  const size_t packed = larger(larger(multiplyBlockScratch(block, s.keyLength, s.headSize), multiplyBlockScratch(block, s.headSize, s.keyLength)),
                             multiplyBlockScratch(s.keyLength, s.headSize, block));
  // One task a head, since the gradients of keys and values sum over all queries.
  parallel(context, s.batch * s.heads, [&](size_t task, int worker) {
    const size_t b = task / s.heads, h = task % s.heads;
    const AttentionRows query(a, 0, 8, b, h), key(a, 1, 12, b, h), value(a, 2, 16, b, h);
    const AttentionRows gradQuery(a, 7, 20, b, h), gradKey(a, 8, 24, b, h), gradValue(a, 9, 28, b, h);
    char* scratch = static_cast<char*>(context.scratch(&context, worker, 2 * takes(block * stride * 4) + takes(stride * 4) + takes(packed * 4)));
    float *scores = take<float>(scratch, block * stride), *gradients = take<float>(scratch, block * stride), *bias = take<float>(scratch, stride), *packing = take<float>(scratch, packed);
    keyBias(s, b, bias);
    // Last block first: it sees all keys, so its products begin the sums over queries, to which the others add.
    for (size_t end = s.queryLength; end > 0;) {
      const size_t queries = end % block ? end % block : block, first = end - queries, keys = s.visibleKeys(end - 1);
      const bool accumulate = end < s.queryLength;
      const size_t offset = (b * s.queryLength + first) * outputStride + h * s.headSize;
      multiplyBlock(queries, keys, s.headSize, query.row(first), query.stride, 1, key.data, 1, key.stride, scores, stride, false, packing);
      multiplyBlock(queries, keys, s.headSize, gradOutput + offset, outputStride, 1, value.data, 1, value.stride, gradients, stride, false, packing);
      for (size_t i = 0; i < queries; i++) {
        const size_t at = offset + i * outputStride;
        softmaxRowBackward(s, scores + i * stride, gradients + i * stride, bias, logSumExp[(b * s.heads + h) * s.queryLength + first + i],
                           dot(gradOutput + at, output + at, s.headSize), s.visibleKeys(first + i), keys, s.element(b, h, first + i));
      }
      multiplyBlock(queries, s.headSize, keys, gradients, stride, 1, key.data, key.stride, 1, gradQuery.row(first), gradQuery.stride, false, packing);
      multiplyBlock(keys, s.headSize, queries, gradients, 1, stride, query.row(first), query.stride, 1, gradKey.data, gradKey.stride, accumulate, packing);
      multiplyBlock(keys, s.headSize, queries, scores, 1, stride, gradOutput + offset, outputStride, 1, gradValue.data, gradValue.stride, accumulate, packing);
      end = first;
    }
  });
}
