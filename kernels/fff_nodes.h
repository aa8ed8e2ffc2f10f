// The neurons of a fast feedforward layer as they lie in memory, in each precision: a neuron's w_in and, beside it, its w_out. A visit
// takes a logit from one and adds the other to the output.

struct TreeShape {
  size_t trees, depth, leafWidth;
  const float* thresholds;  // [trees, inner nodes]; may be null: all are 0
  // Inner nodes of a tree, one neuron each; leaves follow, leafWidth neurons each.
  size_t innerNodes() const { return (size_t{1} << depth) - 1; }
  size_t neurons() const { return innerNodes() + (leafWidth << depth); }
  // Neurons that a token uses in one tree.
  size_t visits() const { return depth + leafWidth; }
  float threshold(size_t tree, size_t node) const { return thresholds ? thresholds[tree * innerNodes() + node] : 0.0f; }
  // Row of the first neuron of a node (numbered as in a heap) of a tree, among all neurons.
  size_t row(size_t tree, size_t node) const {
    const size_t inner = innerNodes();
    return tree * neurons() + (node < inner ? node : inner + (node - inner) * leafWidth);
  }
};

UFB_INLINE void prefetchBytes(const void* from, size_t bytes) {
  const char* p = static_cast<const char*>(from);
  for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, 2);
}

// How many tokens share a row's loads: as many as registers hold the sums of.
constexpr int tokensTogether = lanes == 16 ? 4 : 2;

// The fixed order in which each logit is summed, whatever the number of tokens: four partial sums over four vectors at a time, the
// other vectors in the first (a part of one in the second), then the fold.
struct FloatNodes {
  using Input = float;
  static constexpr bool convertsInput = false;
  const float *rows, *bias;  // bias may be null
  size_t width;
  // Where in a row w_in and w_out begin.
  size_t inAt, outAt;

  static FloatNodes forward(const float* rows, const float* bias, size_t width) { return {rows, bias, width, 0, width}; }
  // The backward for the input is a walk too, in which w_in and w_out change places: a visit takes dy . w_out and adds w_in.
  static FloatNodes backward(const float* rows, size_t width) { return {rows, nullptr, width, width, 0}; }

  const float* in(size_t row) const { return rows + row * 2 * width + inAt; }
  const float* out(size_t row) const { return rows + row * 2 * width + outAt; }
  UFB_INLINE void prefetchIn(size_t row) const { prefetchBytes(in(row), width * sizeof(float)); }
  UFB_INLINE void prefetchOut(size_t row) const { prefetchBytes(out(row), width * sizeof(float)); }
  size_t inputSize() const { return 0; }
  void convert(const float*, Input*, QuantizedInput*) const {}
  float outputScale(size_t) const { return 1.0f; }

  template <int count> UFB_INLINE void logits(const Input* const* x, const QuantizedInput*, const uint32_t*, size_t row, float* z) const {
    const float* w = in(row);
    Vector sum[count][4];
    for (int t = 0; t < count; t++)
      for (int v = 0; v < 4; v++) sum[t][v] = zero();
    size_t i = 0;
    for (; i + 4 * lanes <= width; i += 4 * lanes) {
#pragma GCC unroll 4
      for (int v = 0; v < 4; v++) {
        const Vector weights = load(w + i + v * lanes);
#pragma GCC unroll 4
        for (int t = 0; t < count; t++) sum[t][v] = multiplyAdd(load(x[t] + i + v * lanes), weights, sum[t][v]);
      }
    }
    for (; i + lanes <= width; i += lanes)
      for (int t = 0; t < count; t++) sum[t][0] = multiplyAdd(load(x[t] + i), load(w + i), sum[t][0]);
    for (int t = 0; t < count; t++) {
      if (i < width) sum[t][1] = multiplyAdd(loadPart(x[t] + i, width - i), loadPart(w + i, width - i), sum[t][1]);
      z[t] = sumLanes((sum[t][0] + sum[t][1]) + (sum[t][2] + sum[t][3]));
      if (bias) z[t] += bias[row];
    }
  }

  // Columns [column, column + 4 lanes) of w_out; with `left` < 4 lanes only so many are there.
  template <bool whole> UFB_INLINE void outputs(size_t row, size_t column, size_t left, Vector* w) const {
    const float* from = out(row) + column;
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
      if (whole) w[v] = load(from + v * lanes);
      else w[v] = left > static_cast<size_t>(v * lanes) ? loadUpTo(from + v * lanes, smaller(lanes, left - v * lanes)) : zero();
    }
  }
};

struct Bf16Nodes {
  using Input = Bf16Input;
  static constexpr bool convertsInput = true;
  const uint16_t* rows;
  const float* bias;
  size_t width;

  size_t padded() const { return roundUp(width, rowPadding); }
  const uint16_t* in(size_t row) const { return rows + row * 2 * padded(); }
  UFB_INLINE void prefetchIn(size_t row) const { prefetchBytes(in(row), padded() * sizeof(uint16_t)); }
  UFB_INLINE void prefetchOut(size_t row) const { prefetchBytes(in(row) + padded(), padded() * sizeof(uint16_t)); }
  size_t inputSize() const { return padded(); }
  void convert(const float* x, Input* to, QuantizedInput*) const { roundInputRow(x, width, to); }
  float outputScale(size_t) const { return 1.0f; }

  template <int count> UFB_INLINE void logits(const Input* const* x, const QuantizedInput*, const uint32_t*, size_t row, float* z) const {
    const uint16_t* w = in(row);
    constexpr size_t block = 2 * lanes;
    const size_t padded = this->padded();
    Vector sum[count][4];
    for (int t = 0; t < count; t++)
      for (int v = 0; v < 4; v++) sum[t][v] = zero();
    size_t i = 0;
    for (; i + 4 * block <= padded; i += 4 * block) {
#pragma GCC unroll 4
      for (size_t v = 0; v < 4; v++) {
        const UnsignedVector weights = loadWords(w + i + v * block);
#pragma GCC unroll 4
        for (int t = 0; t < count; t++) sum[t][v] = multiplyAddBf16(x[t] + i + v * block, weights, sum[t][v]);
      }
    }
    for (; i < padded; i += block)
      for (int t = 0; t < count; t++) sum[t][0] = multiplyAddBf16(x[t] + i, loadWords(w + i), sum[t][0]);
    for (int t = 0; t < count; t++) z[t] = sumLanes((sum[t][0] + sum[t][1]) + (sum[t][2] + sum[t][3])) + bias[row];
  }

  template <bool whole> UFB_INLINE void outputs(size_t row, size_t column, size_t, Vector* w) const {
    const uint16_t* from = in(row) + padded() + column;  // padded rows: there is always a whole chunk
    const UnsignedVector first = loadWords(from), second = loadWords(from + 2 * lanes);
    w[0] = lowerBf16(first);
    w[1] = upperBf16(first);
    w[2] = lowerBf16(second);
    w[3] = upperBf16(second);
  }
};

struct Int8Nodes {
  using Input = int8_t;
  static constexpr bool convertsInput = true;
  const uint8_t* rows;
  const float *inScales, *outScales, *bias;
  size_t width;

  size_t padded() const { return roundUp(width, rowPadding); }
  const uint8_t* in(size_t row) const { return rows + row * 2 * padded(); }
  UFB_INLINE void prefetchIn(size_t row) const { prefetchBytes(in(row), padded()); }
  UFB_INLINE void prefetchOut(size_t row) const { prefetchBytes(in(row) + padded(), padded()); }
  size_t inputSize() const { return padded(); }
  void convert(const float* x, Input* to, QuantizedInput* quantized) const { *quantized = quantizeInputRow(x, width, to); }
  float outputScale(size_t row) const { return outScales[row]; }

  template <int count> UFB_INLINE void logits(const Input* const* x, const QuantizedInput* quantized, const uint32_t* tokens, size_t row, float* z) const {
    const uint8_t* w = in(row);
    IntVector sum[count][2];
    for (int t = 0; t < count; t++) sum[t][0] = sum[t][1] = IntVector{};
    size_t i = 0;
    const size_t padded = this->padded();
    for (; i + 8 * lanes <= padded; i += 8 * lanes) {
#pragma GCC unroll 2
      for (int v = 0; v < 2; v++)
#pragma GCC unroll 4
        for (int t = 0; t < count; t++) sum[t][v] = multiplyAddBytes(w + i + v * 4 * lanes, x[t] + i + v * 4 * lanes, sum[t][v]);
    }
    for (; i < padded; i += 4 * lanes)
      for (int t = 0; t < count; t++) sum[t][0] = multiplyAddBytes(w + i, x[t] + i, sum[t][0]);
    for (int t = 0; t < count; t++) {
      const QuantizedInput& input = quantized[tokens[t]];
      const int32_t total = sumIntegers(sum[t][0] + sum[t][1]) - weightOffset * input.sum;
      z[t] = static_cast<float>(total) * (input.scale * inScales[row]) + bias[row];
    }
  }

  template <bool whole> UFB_INLINE void outputs(size_t row, size_t column, size_t, Vector* w) const {
    unpackBytes(in(row) + padded() + column, w);
  }
};

// ------------------------------------------------------------------ preparing

// Where the scales lie in nodes prepared in i8: after the rows, first those of w_in, then those of w_out.
inline float* int8NodeScales(void* data, size_t count, size_t width) {
  return reinterpret_cast<float*>(static_cast<uint8_t*>(data) + count * 2 * roundUp(width, rowPadding));
}

inline Int8Nodes int8Nodes(void* data, const float* bias, size_t count, size_t width) {
  const float* scales = int8NodeScales(data, count, width);
  return {static_cast<const uint8_t*>(data), scales, scales + count, bias, width};
}

inline void prepareNodes(Context& context, const Arguments& a) {
  const float* nodes = a.floats(0);
  void* data = a.operands[1];
  const size_t count = a.count(0), width = a.count(1) / 2, padded = roundUp(width, rowPadding);
  const Precision precision = static_cast<Precision>(a.count(2));
  parallelRanges(context, 2 * count, 65536 / (width + 1) + 1, [&](size_t begin, size_t end, int) {
    for (size_t half = begin; half < end; half++) {
      const float* row = nodes + half * width;
      if (precision == Precision::f32) {
        __builtin_memcpy(static_cast<float*>(data) + half * width, row, width * sizeof(float));
      } else if (precision == Precision::bf16) {
        packBf16Row(row, width, static_cast<uint16_t*>(data) + half * padded);
      } else {
        const RowScale scale = rowScale(row, width);
        if (!(scale.scale < __builtin_inff())) {
          context.fail(&context, "prepareNodes: the weights of neuron %lld are not finite and cannot be rounded to i8", static_cast<long long>(half / 2), 0, 0);
          continue;
        }
        const bool out = half % 2 == 1;
        int8NodeScales(data, count, width)[half / 2 + (out ? count : 0)] = scale.scale;
        uint8_t* to = static_cast<uint8_t*>(data) + half * padded;
        quantizeRow(row, width, padded, scale.inverse, out ? 0 : weightOffset, to);
        for (size_t block = 0; out && block < padded; block += 4 * lanes) packBytes(to + block);
      }
    }
  });
}
