// Scaled dot-product attention (see src/backend/operations/attention.ts), a head at a time, a few queries at a time that keep their
// whole rows of scores (those of a block of queries in the backward, which computes probabilities again from logSumExp): the scratch is
// bounded, whatever the query length.
// With `bf16` the operands of every product are rounded, probabilities before they are divided by their sum, which is that of the exact ones.

// A sequence's rows: of its queries, outputs and what is kept of them, and of its keys and values.
struct AttentionSequence {
  size_t firstQuery, queries, firstKey, keys;
};

struct AttentionShape {
  size_t batch, heads, headSize, queryLength, keyLength;
  bool causal;
  float scale;
  DropoutRule dropout;
  bool bf16;
  size_t keyValueHeads, queryRows, keyRows;
  const int32_t *paddingMask, *sequences;

  AttentionShape(const Arguments& a)
      : batch(a.count(0)), heads(a.count(1)), headSize(a.count(2)), queryLength(a.count(3)), keyLength(a.count(4)), causal(a.flag(5)),
        scale(1.0f / __builtin_sqrtf(a.number(2))), dropout(a.numbers[6], a.numbers[7]), bf16(static_cast<Precision>(a.count(8)) == Precision::bf16),
        keyValueHeads(a.count(9)), queryRows(a.count(10)), keyRows(a.count(11)), paddingMask(a.integers(3)), sequences(a.integers(4)) {}

  // The most queries that a task of the forward, or a block of the backward, takes on.
  static constexpr size_t maxQueries = 128;
  // Queries in a block of the backward: their scores should fit the second-level cache.
  size_t backwardBlock() const {
    const size_t rows = 65536 / keyLength / 16 * 16;
    return smaller(queryLength, rows < 64 ? 64 : smaller(rows, maxQueries));
  }
  // Elements from one row of scores to the next.
  size_t scoreStride() const { return roundUp(keyLength, 16); }
  // Elements from one rounded row of a head to the next.
  size_t headStride() const { return roundUp(headSize, 16); }
  // Heads of queries that share one of keys and values.
  size_t group() const { return heads / keyValueHeads; }
  AttentionSequence sequence(size_t b) const {
    if (!sequences) return {b * queryLength, queryLength, b * keyLength, keyLength};
    const int32_t* s = sequences + 4 * b;
    return {static_cast<size_t>(s[0]), static_cast<size_t>(s[1]), static_cast<size_t>(s[2]), static_cast<size_t>(s[3])};
  }
  // Where the rows of a sequence begin in an operand of these strides.
  size_t start(size_t b, size_t firstRow, size_t batchStride, size_t rowStride) const { return sequences ? firstRow * rowStride : b * batchStride; }
  size_t visibleKeys(const AttentionSequence& of, size_t query) const { return causal ? query + 1 + of.keys - of.queries : of.keys; }
  uint32_t element(size_t b, size_t h, size_t query) const {
    return static_cast<uint32_t>(((b * heads + h) * queryLength + query) * keyLength);
  }

  // Whether all sequences lie within the operands; records a late error if not. They come from outside, like indices.
  bool areInside(Context& context) const {
    for (size_t b = 0; sequences && b < batch; b++) {
      const int32_t* s = sequences + 4 * b;
      const bool counts = s[0] >= 0 && s[1] > 0 && s[2] >= 0 && s[3] > 0;
      const AttentionSequence of = sequence(b);
      if (counts && of.queries <= queryLength && of.keys <= keyLength && of.firstQuery + of.queries <= queryRows && of.firstKey + of.keys <= keyRows &&
          (!causal || of.queries <= of.keys)) continue;
      context.fail(&context, "attention: sequence %lld has %lld queries and %lld keys, or places, that do not fit the operands", static_cast<long long>(b), s[1], s[3]);
      return false;
    }
    return true;
  }
};

// One head of one sequence of an operand: rows of headSize.
struct AttentionRows {
  float* data;
  size_t stride;
  AttentionRows(const Arguments& a, const AttentionShape& s, int operand, int number, size_t b, size_t firstRow, size_t h)
      : data(a.floats(operand) + a.count(number) + s.start(b, firstRow, a.count(number + 1), a.count(number + 2)) + h * a.count(number + 3)), stride(a.count(number + 2)) {}
  float* row(size_t t) const { return data + t * stride; }
  Rows from(size_t t) const { return {row(t), stride}; }
};

// What is added to the scores of each key: 0, or -10000 where it is padding. Zeros up to scoreStride.
inline void keyBias(const AttentionShape& s, size_t b, float* bias) {
  for (size_t j = s.keyLength; j < s.scoreStride(); j++) bias[j] = 0;
  for (size_t j = 0; j < s.keyLength; j++) bias[j] = s.paddingMask && s.paddingMask[b * s.keyLength + j] == 0 ? -10000.0f : 0.0f;
}

// exp(score - maximum) over the first `visible` of `count` scores, the others 0; dropped ones become 0 after they were summed. Takes whole
// vectors: scores and bias reach to a multiple of them.
struct RowSoftmax {
  float maximum, sum;
};
inline RowSoftmax softmaxRow(const AttentionShape& s, float* scores, const float* bias, size_t visible, size_t count, uint32_t element) {
  const Vector scale = splat(s.scale), lowest = splat(-__builtin_inff());
  Vector best = lowest;
  for (size_t j = 0; j < visible; j += lanes) {
    Vector score = multiplyAdd(load(scores + j), scale, load(bias + j));
    if (visible - j < lanes) score = select(firstLanes(visible - j), score, lowest);
    store(scores + j, score);
    best = maximum(best, score);
  }
  const Vector top = splat(maximumLane(best));
  Vector sums = zero();
  for (size_t j = 0; j < visible; j += lanes) {
    const Vector e = exponential(load(scores + j) - top);
    sums += e;
    store(scores + j, s.dropout.any() ? select(s.dropout.keeps(element + static_cast<uint32_t>(j)), e, zero()) : e);
  }
  for (size_t j = roundUp(visible, lanes); j < count; j += lanes) store(scores + j, zero());
  return {top[0], sumLanes(sums)};
}

template <bool bf16> inline void attentionIn(Context& context, const Arguments& a, const AttentionShape& s) {
  float *output = a.floats(5), *logSumExp = a.floats(6);
  // A task packs the keys and values for its queries, of which a few at a time meet them while their scores are in the first cache.
  constexpr size_t block = AttentionShape::maxQueries;
  const size_t blocks = (s.queryLength + block - 1) / block, stride = s.scoreStride(), headStride = s.headStride(), outputStride = s.heads * s.headSize;
  const uint64_t columnFloats = packedSize(s.keyLength, s.headSize), rowFloats = packedSize(s.headSize, s.keyLength);
  const uint64_t scoreBytes = uint64_t{stride} * 4, roundedBytes = bf16 ? uint64_t{headStride} * 4 * tileRows : 0;
  const uint64_t bytes = takes(tileRows * scoreBytes) + takes(scoreBytes) + takes(columnFloats * 4) + takes(rowFloats * 4) + takes(roundedBytes);
  parallel(context, s.batch * s.heads * blocks, [&](size_t task, int worker) {
    const size_t b = task / blocks / s.heads, h = task / blocks % s.heads, begin = task % blocks * block, shared = h / s.group();
    const AttentionSequence of = s.sequence(b);
    if (begin >= of.queries) return;
    const size_t end = smaller(begin + block, of.queries), keys = s.visibleKeys(of, end - 1);
    const AttentionRows query(a, s, 0, 12, b, of.firstQuery, h), key(a, s, 1, 16, b, of.firstKey, shared), value(a, s, 2, 20, b, of.firstKey, shared);
    char* scratch = static_cast<char*>(context.scratch(&context, worker, bytes));
    float *scores = take<float>(scratch, tileRows * stride), *bias = take<float>(scratch, stride);
    float *keyColumns = take<float>(scratch, columnFloats), *valueRows = take<float>(scratch, rowFloats);
    float* rounded = bf16 ? take<float>(scratch, tileRows * headStride) : nullptr;

    keyBias(s, b, bias);
    packForRows<bf16>(keys, s.headSize, {key.data, 1, key.stride}, keyColumns);
    packForRows<bf16>(s.headSize, keys, {value.data, value.stride, 1}, valueRows);
    for (size_t first = begin; first < end; first += tileRows) {
      const size_t queries = smaller(tileRows, end - first);
      float* out = output + (of.firstQuery + first) * outputStride + h * s.headSize;
      for (size_t i = first + tileRows; i < smaller(first + 2 * tileRows, end); i++)
        for (size_t c = 0; c < s.headSize; c += lanes) __builtin_prefetch(query.row(i) + c);
      multiplyRows<bf16>(queries, keys, s.headSize, rowsFor<bf16>(queries, s.headSize, query.from(first), rounded, headStride), keyColumns, scores, stride);
      RowSoftmax rows[tileRows];
      for (size_t i = 0; i < queries; i++) rows[i] = softmaxRow(s, scores + i * stride, bias, s.visibleKeys(of, first + i), keys, s.element(b, h, first + i));
      multiplyRows<bf16>(queries, s.headSize, keys, rowsFor<bf16>(queries, keys, {scores, stride}, scores, stride), valueRows, out, outputStride);
      for (size_t i = 0; i < queries; i++) {
        float* y = out + i * outputStride;
        const Vector factor = splat(s.dropout.scale / rows[i].sum);
        eachVector(0, s.headSize, [&](size_t c, size_t n) { storeUpTo(y + c, loadUpTo(y + c, n) * factor, n); });
        if (logSumExp) logSumExp[(of.firstQuery + first + i) * s.heads + h] = rows[i].maximum + logarithm(splat(rows[i].sum))[0];
      }
    }
  });
}
inline void attention(Context& context, const Arguments& a) {
  const AttentionShape s(a);
  if (!s.areInside(context)) return;
  if (s.bf16) attentionIn<true>(context, a, s);
  else attentionIn<false>(context, a, s);
}

// From scores and the gradients of the probabilities after dropout: probabilities after dropout and the gradients of q . k, in place.
inline void softmaxRowBackward(const AttentionShape& s, float* scores, float* gradients, const float* bias, float logSumExp, float outputDot,
                               size_t visible, size_t count, uint32_t element) {
  const Vector scale = splat(s.scale), shift = splat(logSumExp), dotted = splat(outputDot);
  for (size_t j = 0; j < visible; j += lanes) {
    const Vector p = exponential(multiplyAdd(load(scores + j), scale, load(bias + j)) - shift);
    Vector kept = p, gradient = load(gradients + j);
    if (s.dropout.any()) {
      const Vector factor = s.dropout.factors(element + static_cast<uint32_t>(j));
      kept *= factor;
      gradient *= factor;
    }
    gradient = p * (gradient - dotted) * scale;
    const IntVector seen = firstLanes(smaller(lanes, visible - j));
    store(scores + j, select(seen, kept, zero()));
    store(gradients + j, select(seen, gradient, zero()));
  }
  for (size_t j = roundUp(visible, lanes); j < count; j += lanes) {
    store(scores + j, zero());
    store(gradients + j, zero());
  }
}

// rounded(gradOutput) . output of a row: rounded as in the products with the values, so that what all values have in common cancels.
template <bool bf16> inline float rowDot(const float* gradOutput, const float* output, size_t count) {
  if constexpr (!bf16) return dot(gradOutput, output, count);
  Vector sum = zero();
  eachVector(0, count, [&](size_t c, size_t n) { sum = multiplyAdd(roundToBf16(loadUpTo(gradOutput + c, n)), loadUpTo(output + c, n), sum); });
  return sumLanes(sum);
}

template <bool bf16> inline void attentionBackwardIn(Context& context, const Arguments& a, const AttentionShape& s) {
  const float *output = a.floats(5), *logSumExp = a.floats(6), *gradOutput = a.floats(7);
  const size_t block = s.backwardBlock(), stride = s.scoreStride(), headStride = s.headStride(), outputStride = s.heads * s.headSize;
  const uint64_t columnFloats = packedSize(s.keyLength, s.headSize), rowFloats = packedSize(s.headSize, s.keyLength), scoreBytes = uint64_t{stride} * 4;
  const uint64_t sumFloats = multiplyBlockScratch(s.keyLength, s.headSize, block), roundedFloats = bf16 ? uint64_t{stride > headStride ? stride : headStride} * tileRows : 0;
  const uint64_t bytes = 2 * takes(block * scoreBytes) + takes(scoreBytes) + 2 * takes(columnFloats * 4) + takes(rowFloats * 4) + takes(sumFloats * 4) + takes(roundedFloats * 4);
  // One task a head of keys and values, since their gradients sum over all queries, and over the heads that share them.
  parallel(context, s.batch * s.keyValueHeads, [&](size_t task, int worker) {
    const size_t b = task / s.keyValueHeads, shared = task % s.keyValueHeads;
    const AttentionSequence of = s.sequence(b);
    const AttentionRows key(a, s, 1, 16, b, of.firstKey, shared), value(a, s, 2, 20, b, of.firstKey, shared);
    const AttentionRows gradKey(a, s, 9, 28, b, of.firstKey, shared), gradValue(a, s, 10, 32, b, of.firstKey, shared);
    char* scratch = static_cast<char*>(context.scratch(&context, worker, bytes));
    float *scores = take<float>(scratch, block * stride), *gradients = take<float>(scratch, block * stride), *bias = take<float>(scratch, stride);
    float *keyColumns = take<float>(scratch, columnFloats), *valueColumns = take<float>(scratch, columnFloats);
    float *keyRows = take<float>(scratch, rowFloats), *forSums = take<float>(scratch, sumFloats), *rounded = take<float>(scratch, roundedFloats);
    keyBias(s, b, bias);
    for (size_t h = shared * s.group(); h < (shared + 1) * s.group(); h++) {
      const AttentionRows query(a, s, 0, 12, b, of.firstQuery, h), gradQuery(a, s, 8, 24, b, of.firstQuery, h);
      // Last block first: it sees all keys, so its products begin the sums over queries, to which the others add.
      for (size_t end = of.queries; end > 0;) {
        const size_t queries = end % block ? end % block : block, begin = end - queries, keys = s.visibleKeys(of, end - 1);
        const bool accumulate = end < of.queries || h > shared * s.group();
        if (!accumulate || s.causal) {  // otherwise they are those of the block before
          packForRows<bf16>(keys, s.headSize, {key.data, 1, key.stride}, keyColumns);
          packForRows<bf16>(keys, s.headSize, {value.data, 1, value.stride}, valueColumns);
          packForRows<bf16>(s.headSize, keys, {key.data, key.stride, 1}, keyRows);
        }
        const float* gradOut = gradOutput + (of.firstQuery + begin) * outputStride + h * s.headSize;
        const float* out = output + (of.firstQuery + begin) * outputStride + h * s.headSize;
        for (size_t first = 0; first < queries; first += tileRows) {
          const size_t rows = smaller(tileRows, queries - first);
          float *score = scores + first * stride, *gradient = gradients + first * stride;
          multiplyRows<bf16>(rows, keys, s.headSize, rowsFor<bf16>(rows, s.headSize, query.from(begin + first), rounded, headStride), keyColumns, score, stride);
          multiplyRows<bf16>(rows, keys, s.headSize, rowsFor<bf16>(rows, s.headSize, {gradOut + first * outputStride, outputStride}, rounded, headStride), valueColumns, gradient, stride);
          for (size_t i = first; i < first + rows; i++) {
            softmaxRowBackward(s, scores + i * stride, gradients + i * stride, bias, logSumExp[(of.firstQuery + begin + i) * s.heads + h],
                               rowDot<bf16>(gradOut + i * outputStride, out + i * outputStride, s.headSize), s.visibleKeys(of, begin + i), keys, s.element(b, h, begin + i));
          }
          multiplyRows<bf16>(rows, s.headSize, keys, rowsFor<bf16>(rows, keys, {gradient, stride}, rounded, stride), keyRows, gradQuery.row(begin + first), gradQuery.stride);
        }
        multiplyBlock<bf16>(keys, s.headSize, queries, {gradients, 1, stride}, {query.row(begin), query.stride, 1}, gradKey.data, gradKey.stride, accumulate, forSums);
        multiplyBlock<bf16>(keys, s.headSize, queries, {scores, 1, stride}, {gradOut, outputStride, 1}, gradValue.data, gradValue.stride, accumulate, forSums);
        end = begin;
      }
    }
  });
}
inline void attentionBackward(Context& context, const Arguments& a) {
  const AttentionShape s(a);
  if (!s.areInside(context)) return;
  if (s.bf16) attentionBackwardIn<true>(context, a, s);
  else attentionBackwardIn<false>(context, a, s);
}
