// The fast feedforward layer's forward (see src/backend/operations/fff.ts): each token visits depth + leafWidth neurons of each tree, and nothing but
// their rows is read. What costs is fetching rows: those of the lower levels from the last cache or from memory, so tokens walk down
// together, level by level, sorted by the node they are at. A row that several tokens visit is loaded once for them, and rows are
// prefetched while other tokens compute.

// Walks that go down together: as many as keep their inputs in the second-level cache (768 floats: 384 KB).
constexpr size_t walksInFlight = 128;
// Walks that meet the neurons of a leaf together: as many as keep their inputs in the first-level cache (768 floats: 24 KB).
constexpr size_t walksAtLeaf = 8;
// Rows of the next level that are fetched as soon as they are known; the others as many runs before they are used.
constexpr size_t rowsAhead = 8;

struct FastFeedforwardOutputs {
  float* output;
  bool accumulate;
  int32_t* pathNodes;  // may be null
  float* logits;     // may be null
};

// The walks of some tokens down some neighboring trees: walk i trees + tree. Lies in a worker's scratch.
template <class Nodes> struct Walks {
  size_t count, trees, firstTree, visits;
  uint32_t* tokens;           // [count]
  uint32_t* rows;             // [count trees, visits], the neuron's row in the layer
  float* logits;              // [count trees, visits]
  float* activations;         // [count trees, visits]
  uint32_t *order, *spare;    // [count trees], walks by the row that they are at
  const typename Nodes::Input** inputs;  // [count]
  typename Nodes::Input* converted;      // [count, inputSize]
  QuantizedInput* quantized;  // [count]

  size_t walks() const { return count * trees; }

  static uint64_t bytes(const Nodes& nodes, uint64_t count, size_t trees, size_t visits) {
    const uint64_t walks = count * trees;
    return takes(count * 4) + 3 * takes(walks * visits * 4) + 2 * takes(walks * 4) + takes(count * sizeof(void*)) +
           takes(count * nodes.inputSize() * sizeof(typename Nodes::Input)) + takes(count * sizeof(QuantizedInput));
  }

  Walks(char* block, const Nodes& nodes, size_t count, size_t firstTree, size_t trees, size_t visits)
      : count(count), trees(trees), firstTree(firstTree), visits(visits), tokens(take<uint32_t>(block, count)), rows(take<uint32_t>(block, walks() * visits)),
        logits(take<float>(block, walks() * visits)), activations(take<float>(block, walks() * visits)), order(take<uint32_t>(block, walks())), spare(take<uint32_t>(block, walks())),
        inputs(take<const typename Nodes::Input*>(block, count)), converted(take<typename Nodes::Input>(block, count * nodes.inputSize())),
        quantized(take<QuantizedInput>(block, count)) {}

  void start(const Nodes& nodes, const float* input) {
    for (size_t i = 0; i < count; i++) {
      const float* x = input + tokens[i] * nodes.width;
      if constexpr (Nodes::convertsInput) {
        inputs[i] = converted + i * nodes.inputSize();
        nodes.convert(x, converted + i * nodes.inputSize(), quantized + i);
      } else {
        inputs[i] = x;
      }
    }
    // Trees one after the other: order stays sorted by row from the roots on.
    for (size_t i = 0; i < walks(); i++) order[i] = static_cast<uint32_t>(i % count * trees + i / count);
  }

  // The end of the run of walks that are at the same row as walk order[begin], on a level.
  size_t runEnd(size_t begin, size_t level) const {
    const uint32_t row = rows[order[begin] * visits + level];
    size_t end = begin + 1;
    while (end < walks() && rows[order[end] * visits + level] == row) end++;
    return end;
  }
};

// The logits of walks order[begin .. end), all at `row`, into visit v of each.
template <class Nodes> UFB_INLINE void logitsOfRow(const Nodes& nodes, const Walks<Nodes>& walks, size_t begin, size_t end, size_t row, size_t v) {
  const auto some = [&](auto number, size_t at) {
    constexpr int count = decltype(number)::value;
    const typename Nodes::Input* x[count];
    uint32_t tokens[count];
    float z[count];
    for (int t = 0; t < count; t++) {
      tokens[t] = walks.order[at + t] / static_cast<uint32_t>(walks.trees);
      x[t] = walks.inputs[tokens[t]];
    }
    nodes.template logits<count>(x, walks.quantized, tokens, row, z);
    for (int t = 0; t < count; t++) walks.logits[walks.order[at + t] * walks.visits + v] = z[t];
  };
  size_t at = begin;
  for (; at + tokensTogether <= end; at += tokensTogether) some(Number<tokensTogether>{}, at);
  for (; at < end; at++) some(Number<1>{}, at);
}

// The logits of walks order[begin .. end) at a leaf whose first neuron is `row`.
template <class Nodes> inline void logitsOfLeaf(const Nodes& nodes, const TreeShape& shape, const Walks<Nodes>& walks, size_t begin, size_t end, size_t row) {
  for (size_t first = begin; first < end; first += walksAtLeaf) {
    const size_t last = smaller(first + walksAtLeaf, end);
    for (size_t neuron = 0; neuron < shape.leafWidth; neuron++) {
      if (first == begin && neuron + 1 < shape.leafWidth) nodes.prefetchIn(row + neuron + 1);
      logitsOfRow(nodes, walks, first, last, row + neuron, shape.depth + neuron);
      for (size_t i = first; neuron > 0 && i < last; i++) walks.rows[walks.order[i] * walks.visits + shape.depth + neuron] = static_cast<uint32_t>(row + neuron);
    }
  }
}

// Levels [from, to), to <= depth + 1. Rows at level `from` are known, with walks in their order; at level `to`, if there is one, they will be.
template <class Nodes> inline void descend(const Nodes& nodes, const TreeShape& shape, Walks<Nodes>& walks, size_t from, size_t to) {
  const size_t visits = walks.visits, count = walks.walks();
  for (size_t level = from; level < to; level++) {
    size_t runsAhead = 0, ahead = 0, fetched = 0, placed = 0;
    for (size_t begin = 0, end; begin < count; begin = end) {
      // The first rows were fetched on the level above.
      for (; ahead < count && runsAhead < rowsAhead; runsAhead++) {
        nodes.prefetchIn(walks.rows[walks.order[ahead] * visits + level]);
        ahead = walks.runEnd(ahead, level);
      }
      runsAhead--;
      end = walks.runEnd(begin, level);
      const size_t row = walks.rows[walks.order[begin] * visits + level];
      if (level == shape.depth) {
        logitsOfLeaf(nodes, shape, walks, begin, end, row);
        continue;
      }
      logitsOfRow(nodes, walks, begin, end, row, level);
      const size_t tree = row / shape.neurons(), node = row - tree * shape.neurons();
      const float threshold = shape.threshold(tree, node);
      for (size_t right = 0; right < 2; right++) {
        const size_t child = shape.row(tree, 2 * node + 1 + right), before = placed;
        for (size_t i = begin; i < end; i++) {
          const uint32_t walk = walks.order[i];
          if ((walks.logits[walk * visits + level] > threshold) != (right == 1)) continue;
          walks.rows[walk * visits + level + 1] = static_cast<uint32_t>(child);
          walks.spare[placed++] = walk;
        }
        if (placed > before && fetched < rowsAhead && level + 1 < to) {
          nodes.prefetchIn(child);
          fetched++;
        }
      }
    }
    if (level == shape.depth) continue;
    uint32_t* sorted = walks.spare;
    walks.spare = walks.order;
    walks.order = sorted;
  }
}

// What the visits of `count` tokens add to their outputs. A row that all of them visit at the same place is loaded once.
template <int count, bool whole, class Nodes>
UFB_INLINE void addOutputs(const Nodes& nodes, const uint32_t* const* rows, const float* const* activations, size_t visits, size_t column, size_t left,
                           float* const* y, bool accumulate) {
  Vector sum[count][4];
  const auto part = [&](int v) { return left > static_cast<size_t>(v * lanes) ? smaller(lanes, left - v * lanes) : 0; };
#pragma GCC unroll 4
  for (int t = 0; t < count; t++)
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) sum[t][v] = !accumulate ? zero() : whole ? load(y[t] + column + v * lanes) : part(v) > 0 ? loadUpTo(y[t] + column + v * lanes, part(v)) : zero();
  for (size_t visit = 0; visit < visits; visit++) {
    Vector w[4];
    bool shared = true;
#pragma GCC unroll 4
    for (int t = 1; t < count; t++) shared = shared && rows[t][visit] == rows[0][visit];
    nodes.template outputs<whole>(rows[0][visit], column, left, w);
#pragma GCC unroll 4
    for (int t = 0; t < count; t++) {
      if (t > 0 && !shared) nodes.template outputs<whole>(rows[t][visit], column, left, w);
      const Vector scale = splat(activations[t][visit]);
#pragma GCC unroll 4
      for (int v = 0; v < 4; v++) sum[t][v] = multiplyAdd(scale, w[v], sum[t][v]);
    }
  }
#pragma GCC unroll 4
  for (int t = 0; t < count; t++)
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
      if (whole) store(y[t] + column + v * lanes, sum[t][v]);
      else if (part(v) > 0) storeUpTo(y[t] + column + v * lanes, sum[t][v], part(v));
    }
}

// What whole walks give: outputs, and what the backward wants to know of them. Trees come in order.
template <class Nodes> inline void finishWalks(const Nodes& nodes, const TreeShape& shape, const Walks<Nodes>& walks, const FastFeedforwardOutputs& outputs) {
  const size_t visits = walks.visits, perToken = walks.trees * visits, levels = shape.depth + 1;
  eachVector(0, walks.walks() * visits, [&](size_t v, size_t n) { storeUpTo(walks.activations + v, geluValue(loadUpTo(walks.logits + v, n)), n); });
  for (size_t i = 0; i < walks.walks(); i++) {
    const size_t walk = walks.tokens[i / walks.trees] * shape.trees + walks.firstTree + i % walks.trees;
    const uint32_t* rows = walks.rows + i * visits;
    if (outputs.logits) __builtin_memcpy(outputs.logits + walk * visits, walks.logits + i * visits, visits * sizeof(float));
    for (size_t level = 0; outputs.pathNodes && level < levels; level++) {
      const size_t node = rows[level] - (walks.firstTree + i % walks.trees) * shape.neurons(), inner = shape.innerNodes();
      outputs.pathNodes[walk * levels + level] = static_cast<int32_t>(node < inner ? node : inner + (node - inner) / shape.leafWidth);
    }
  }
  for (size_t v = 0; v < walks.walks() * visits; v++) walks.activations[v] *= nodes.outputScale(walks.rows[v]);

  const bool accumulate = outputs.accumulate || walks.firstTree > 0;
  // In the first tree's order, in which neighbors share rows: a row is fetched where it differs from the neighbor's.
  const auto rowsOf = [&](size_t at) { return walks.rows + walks.order[at] / walks.trees * perToken; };
  const auto fetch = [&](size_t at) {
    if (at >= walks.count) return;
    const uint32_t *own = rowsOf(at), *before = at > 0 ? rowsOf(at - 1) : nullptr;
    for (size_t v = 0; v < perToken; v++)
      if (!before || own[v] != before[v]) nodes.prefetchOut(own[v]);
  };
  for (size_t i = 0; i < tokensTogether; i++) fetch(i);
  const auto some = [&](auto number, size_t at) {
    constexpr int count = decltype(number)::value;
    for (size_t i = 0; i < count; i++) fetch(at + tokensTogether + i);
    const uint32_t* rows[count];
    const float* activations[count];
    float* y[count];
    for (int t = 0; t < count; t++) {
      const size_t token = walks.order[at + t] / walks.trees;
      rows[t] = rowsOf(at + t);
      activations[t] = walks.activations + token * perToken;
      y[t] = outputs.output + walks.tokens[token] * nodes.width;
    }
    size_t column = 0;
    for (; column + 4 * lanes <= nodes.width; column += 4 * lanes) addOutputs<count, true>(nodes, rows, activations, perToken, column, 4 * lanes, y, accumulate);
    if (column < nodes.width) addOutputs<count, false>(nodes, rows, activations, perToken, column, nodes.width - column, y, accumulate);
  };
  size_t at = 0;
  for (; at + tokensTogether <= walks.count; at += tokensTogether) some(Number<tokensTogether>{}, at);
  for (; at < walks.count; at++) some(Number<1>{}, at);
}

// Tokens [first, first + count), all the way. Few tokens, or shallow trees: several trees at once.
template <class Nodes>
inline void walkTogether(Context& context, const Nodes& nodes, const TreeShape& shape, const float* input, size_t first, size_t count,
                         const FastFeedforwardOutputs& outputs, int worker) {
  const size_t visits = shape.visits(), wanted = 256 / (count * visits);
  const size_t atOnce = smaller(shape.trees, wanted > 0 ? wanted : 1);
  char* scratch = static_cast<char*>(context.scratch(&context, worker, Walks<Nodes>::bytes(nodes, count, atOnce, visits)));
  for (size_t tree = 0; tree < shape.trees; tree += atOnce) {
    Walks<Nodes> walks(scratch, nodes, count, tree, smaller(atOnce, shape.trees - tree), visits);
    for (size_t i = 0; i < count; i++) walks.tokens[i] = static_cast<uint32_t>(first + i);
    walks.start(nodes, input);
    for (size_t walk = 0; walk < walks.walks(); walk++) walks.rows[walk * visits] = static_cast<uint32_t>(shape.row(tree + walk % walks.trees, 0));
    descend(nodes, shape, walks, 0, shape.depth + 1);
    finishWalks(nodes, shape, walks, outputs);
  }
}

// All tokens, tree by tree: the first `top` levels in the tokens' order, the rest in the order of the nodes that they came to, so that
// neighbors share rows. Gives the same bits as walkTogether.
template <class Nodes>
inline void walkSorted(Context& context, const Nodes& nodes, const TreeShape& shape, const float* input, size_t tokens, size_t top,
                       const FastFeedforwardOutputs& outputs) {
  const size_t visits = shape.visits(), kept = top + 1;
  const uint64_t list = takes(tokens * 4), lists = takes(uint64_t{tokens} * 4 * kept);
  char* block = static_cast<char*>(context.scratch(&context, context.threads, 2 * lists + 3 * list));
  uint32_t* rows = take<uint32_t>(block, tokens * kept);
  float* logits = take<float>(block, tokens * kept);
  uint32_t *keys = take<uint32_t>(block, tokens), *order = take<uint32_t>(block, tokens), *spare = take<uint32_t>(block, tokens);
  for (size_t tree = 0; tree < shape.trees; tree++) {
    const uint32_t firstAtTop = static_cast<uint32_t>(shape.row(tree, (size_t{1} << top) - 1));
    parallelRanges(context, tokens, walksInFlight, [&](size_t begin, size_t end, int worker) {
      char* scratch = static_cast<char*>(context.scratch(&context, worker, Walks<Nodes>::bytes(nodes, end - begin, 1, kept)));
      Walks<Nodes> walks(scratch, nodes, end - begin, tree, 1, kept);
      for (size_t i = 0; i < walks.count; i++) {
        walks.tokens[i] = static_cast<uint32_t>(begin + i);
        walks.rows[i * kept] = static_cast<uint32_t>(shape.row(tree, 0));
      }
      walks.start(nodes, input);
      descend(nodes, shape, walks, 0, top);
      __builtin_memcpy(rows + begin * kept, walks.rows, walks.count * kept * 4);
      __builtin_memcpy(logits + begin * kept, walks.logits, walks.count * kept * 4);
      for (size_t t = begin; t < end; t++) keys[t] = (rows[t * kept + top] - firstAtTop) / (top < shape.depth ? 1 : static_cast<uint32_t>(shape.leafWidth));
    });
    const uint32_t* sorted = sortByKey(keys, tokens, uint32_t{1} << top, order, spare);
    parallelRanges(context, tokens, walksInFlight, [&](size_t begin, size_t end, int worker) {
      char* scratch = static_cast<char*>(context.scratch(&context, worker, Walks<Nodes>::bytes(nodes, end - begin, 1, visits)));
      Walks<Nodes> walks(scratch, nodes, end - begin, tree, 1, visits);
      for (size_t i = 0; i < walks.count; i++) {
        walks.tokens[i] = sorted[begin + i];
        __builtin_memcpy(walks.rows + i * visits, rows + sorted[begin + i] * kept, kept * 4);
        __builtin_memcpy(walks.logits + i * visits, logits + sorted[begin + i] * kept, top * 4);
      }
      walks.start(nodes, input);
      descend(nodes, shape, walks, top, shape.depth + 1);
      finishWalks(nodes, shape, walks, outputs);
    });
  }
}

template <class Nodes> inline void fffForward(Context& context, const Nodes& nodes, const TreeShape& shape, const Arguments& a) {
  const float* input = a.floats(0);
  const FastFeedforwardOutputs outputs{a.floats(4), a.flag(5), a.integers(5), a.floats(6)};
  const size_t tokens = a.count(0);
  // Sorting pays once some tokens meet at a node well above the leaves, or at leaves of several neurons.
  size_t top = 0;
  while (tokens >> top > 16) top++;
  const bool meet = top + 2 <= shape.depth || shape.leafWidth > 1;
  if (tokens > 2 * walksInFlight && shape.depth > 0 && meet) return walkSorted(context, nodes, shape, input, tokens, smaller(top, shape.depth), outputs);
  const size_t share = (tokens + static_cast<size_t>(context.threads) - 1) / static_cast<size_t>(context.threads);
  parallelRanges(context, tokens, smaller(walksInFlight, roundUp(share, tokensTogether)), [&](size_t begin, size_t end, int worker) { walkTogether(context, nodes, shape, input, begin, end - begin, outputs, worker); });
}

inline TreeShape forwardShape(const Arguments& a) { return {a.count(2), a.count(3), a.count(4), a.floats(3)}; }

inline void fff(Context& context, const Arguments& a) {
  fffForward(context, FloatNodes::forward(a.floats(1), a.floats(2), a.count(1)), forwardShape(a), a);
}

inline void fffPrepared(Context& context, const Arguments& a) {
  const TreeShape shape = forwardShape(a);
  const size_t width = a.count(1);
  const float* bias = a.floats(2);
  switch (static_cast<Precision>(a.count(6))) {
    case Precision::f32: return fffForward(context, FloatNodes::forward(a.floats(1), bias, width), shape, a);
    case Precision::bf16: return fffForward(context, Bf16Nodes{static_cast<const uint16_t*>(a.operands[1]), bias, width}, shape, a);
    case Precision::i8: return fffForward(context, int8Nodes(a.operands[1], bias, shape.trees * shape.neurons(), width), shape, a);
  }
}
