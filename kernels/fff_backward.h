// The backward of the fast feedforward layer (see src/backend/operations/fff.ts): touches the visited neurons only. A token's visits in a tree are one a
// level, and at the leaf one for each of its neurons.

struct FastFeedforward {
  const float* nodes;
  size_t width;
  TreeShape shape;
  const float* neuron(size_t row) const { return nodes + row * 2 * width; }
  // How many levels above the leaves visit v is.
  size_t levelsUp(size_t visit) const { return visit < shape.depth ? shape.depth - visit : 0; }
  // The row of a visit's neuron, its node being numbered within its level.
  size_t row(size_t tree, size_t visit, size_t node) const {
    const size_t level = smaller(visit, shape.depth);
    return shape.row(tree, (size_t{1} << level) - 1 + node) + (visit - level);
  }
};

constexpr size_t maximumLevels = 25;
// Neurons of a leaf whose gradients are summed together.
constexpr size_t leafTogether = tokensTogether;

UFB_INLINE void prefetchRowToWrite(float* row, size_t width) {
  for (size_t i = 0; i < width; i += 16) __builtin_prefetch(row + i, 1, 2);
}

// The tokens of one tree in the order of the leaves they reached (tokens of one leaf in order): those that share a node, on whatever
// level, are neighbors, which makes a run of them.
struct LeafOrder {
  uint32_t *tokens, *places, *leaves;  // token and leaf by place, place by token
  // The node `up` levels above the leaf at a place, numbered within its level.
  uint32_t node(size_t place, size_t up) const { return leaves[place] >> up; }
};

struct FastFeedforwardGradients {
  float *nodes, *bias;
  int32_t* rowMask;
  // By tree, visit and place: dz and gelu(z), by which the gradients of w_in and w_out take the token's input and gradOutput.
  float *slopes, *activations;
};

// Places of one chunk; runs that lie within one are summed there, those that reach over its end in slabs of columns.
constexpr size_t chunkPlaces = 32;

// The order by leaf of one tree, `pathNodes` being its leaves in that tensor, `stride` apart (the nodes above follow from them). False if
// one of them is no leaf.
inline bool orderByLeaf(Context& context, const LeafOrder& order, const int32_t* pathNodes, size_t stride, size_t tokens, size_t depth, uint32_t* keys,
                        uint32_t* first, uint32_t* second) {
  const uint32_t leaves = uint32_t{1} << depth;
  for (size_t t = 0; t < tokens; t++) {
    keys[t] = static_cast<uint32_t>(pathNodes[t * stride]) - (leaves - 1);
    if (keys[t] < leaves) continue;
    context.fail(&context, "fffBackward: node %lld, visited by token %lld, is not on level %lld", pathNodes[t * stride], static_cast<long long>(t), static_cast<long long>(depth));
    return false;
  }
  const uint32_t* sorted = sortByKey(keys, tokens, leaves, first, second);
  for (size_t place = 0; place < tokens; place++) {
    order.tokens[place] = sorted[place];
    order.places[sorted[place]] = static_cast<uint32_t>(place);
    order.leaves[place] = keys[sorted[place]];
  }
  return true;
}

// The visits of tokens that are neighbors in the first tree's order, some at a time.
struct VisitBlock {
  static constexpr size_t capacity = 32;
  size_t place, tokens, first, count;
  uint32_t token[tokensTogether];
  uint32_t rows[tokensTogether][capacity], places[tokensTogether][capacity];  // the neuron's row; the token's place in the order of its tree

  void fill(const FastFeedforward& layer, const LeafOrder* orders, size_t firstPlace, size_t endPlace, size_t firstVisit) {
    place = firstPlace;
    tokens = smaller(tokensTogether, endPlace - firstPlace);
    first = firstVisit;
    const size_t perTree = layer.shape.visits();
    count = smaller(capacity, layer.shape.trees * perTree - first);
    for (size_t t = 0; t < tokens; t++) {
      token[t] = orders[0].tokens[place + t];
      size_t tree = first / perTree, visit = first % perTree;
      for (size_t v = 0; v < count; tree++, visit = 0) {
        const size_t own = orders[tree].places[token[t]];
        for (; visit < perTree && v < count; visit++, v++) {
          places[t][v] = static_cast<uint32_t>(own);
          rows[t][v] = static_cast<uint32_t>(layer.row(tree, visit, orders[tree].node(own, layer.levelsUp(visit))));
        }
      }
    }
  }
};

// dz and gelu(z) of a block's visits, and what they add to gradInput: the row of a visit that the tokens share is loaded once. The
// visits' scales are kept for the neurons' gradients if these are wanted.
template <int together>
inline void fffBackwardBlock(const FastFeedforward& layer, const VisitBlock& block, const float* logits, const float* gradOutput, float* gradInput,
                             bool accumulate, const FastFeedforwardGradients& gradients, size_t tokens) {
  const size_t width = layer.width, visits = layer.shape.trees * layer.shape.visits();
  const FloatNodes nodes = FloatNodes::backward(layer.nodes, width);
  float slopes[together][VisitBlock::capacity], activations[VisitBlock::capacity];
  const float *dy[together], *scales[together];
  const uint32_t* rows[together];
  float* dx[together];
  for (int t = 0; t < together; t++) {
    dy[t] = gradOutput + block.token[t] * width;
    dx[t] = gradInput + block.token[t] * width;
    rows[t] = block.rows[t];
    scales[t] = slopes[t];
  }
  for (size_t v = 0; v < block.count; v++) {
    bool shared = true;
    for (int t = 1; t < together; t++) shared = shared && rows[t][v] == rows[0][v];
    if (shared) {
      float z[together];
      nodes.logits<together>(dy, nullptr, nullptr, rows[0][v], z);
      for (int t = 0; t < together; t++) slopes[t][v] = z[t];
    } else {
      for (int t = 0; t < together; t++) nodes.logits<1>(dy + t, nullptr, nullptr, rows[t][v], slopes[t] + v);
    }
  }
  for (int t = 0; t < together; t++) {
    const float* own = logits + block.token[t] * visits + block.first;
    eachVector(0, block.count, [&](size_t v, size_t n) {
      const Vector z = loadUpTo(own + v, n);
      storeUpTo(slopes[t] + v, loadUpTo(slopes[t] + v, n) * geluSlope(z), n);
      storeUpTo(activations + v, geluValue(z), n);
    });
    for (size_t v = 0; gradients.nodes && v < block.count; v++) {
      const size_t at = (block.first + v) * tokens + block.places[t][v];
      gradients.slopes[at] = slopes[t][v];
      gradients.activations[at] = activations[v];
    }
  }
  const bool adds = accumulate || block.first > 0;
  size_t column = 0;
  for (; column + 4 * lanes <= width; column += 4 * lanes) addOutputs<together, true>(nodes, rows, scales, block.count, column, 4 * lanes, dx, adds);
  if (column < width) addOutputs<together, false>(nodes, rows, scales, block.count, column, width - column, dx, adds);
}

// What a run of visits adds to `neurons` neighboring neurons, over `columns` columns of w_in (half 0) or w_out (half 1). The scales of
// a neuron lie `tokens` behind those of the one before it.
UFB_INLINE void addRun(const FastFeedforward& layer, const FastFeedforwardGradients& gradients, size_t row, size_t neurons, const uint32_t* order, const float* scales,
                       size_t tokens, size_t count, const float* source, int half, size_t column, size_t columns) {
  const size_t stride = 2 * layer.width;
  float* y = gradients.nodes + row * stride + half * layer.width + column;
  if (neurons == leafTogether) {
    size_t i = 0;
    for (; i + 4 * lanes <= columns; i += 4 * lanes) sumRowsTogether<leafTogether, true>(y + i, stride, source + column + i, layer.width, order, scales, tokens, count, 4 * lanes);
    if (i < columns) sumRowsTogether<leafTogether, false>(y + i, stride, source + column + i, layer.width, order, scales, tokens, count, columns - i);
  } else {
    for (size_t n = 0; n < neurons; n++) sumRows(y + n * stride, source + column, layer.width, order, scales + n * tokens, count, columns, true);
  }
  for (size_t n = 0; half == 0 && column == 0 && n < neurons; n++) {
    float sum = gradients.bias[row + n];
    for (size_t i = 0; i < count; i++) sum += scales[n * tokens + i];
    gradients.bias[row + n] = sum;
    gradients.rowMask[row + n] = 1;
  }
}

// The runs of one tree that lie within one chunk of places.
inline void addChunk(const FastFeedforward& layer, const LeafOrder& order, const FastFeedforwardGradients& gradients, size_t tree, size_t chunk, size_t tokens,
                     const float* input, const float* gradOutput) {
  struct Run {
    uint32_t row, level, begin, end;
  } runs[chunkPlaces * maximumLevels];
  size_t count = 0;
  const size_t first = chunk * chunkPlaces, last = smaller(first + chunkPlaces, tokens);
  for (size_t level = 0; level <= layer.shape.depth; level++) {
    const size_t up = layer.shape.depth - level;
    for (size_t begin = first, end; begin < last; begin = end) {
      const uint32_t node = order.node(begin, up);
      for (end = begin + 1; end < last && order.node(end, up) == node; end++) {}
      const bool before = begin == first && first > 0 && order.node(first - 1, up) == node, after = end == last && last < tokens && order.node(last, up) == node;
      if (before || after) continue;
      runs[count++] = {static_cast<uint32_t>(layer.row(tree, level, node)), static_cast<uint32_t>(level), static_cast<uint32_t>(begin), static_cast<uint32_t>(end)};
    }
  }
  constexpr size_t ahead = 4;
  for (size_t r = 0; r < count + ahead; r++) {
    if (r < count) prefetchRowToWrite(gradients.nodes + runs[r].row * 2 * layer.width, 2 * layer.width);
    if (r < ahead) continue;
    const Run& run = runs[r - ahead];
    const size_t neurons = run.level < layer.shape.depth ? 1 : layer.shape.leafWidth;
    for (size_t n = 0; n < neurons; n += leafTogether) {
      const size_t some = smaller(leafTogether, neurons - n), next = smaller(leafTogether, neurons - n - some), row = run.row + n;
      for (size_t i = 0; i < next; i++) prefetchRowToWrite(gradients.nodes + (row + some + i) * 2 * layer.width, 2 * layer.width);
      const size_t at = (tree * layer.shape.visits() + run.level + n) * tokens + run.begin;
      addRun(layer, gradients, row, some, order.tokens + run.begin, gradients.slopes + at, tokens, run.end - run.begin, input, 0, 0, layer.width);
      addRun(layer, gradients, row, some, order.tokens + run.begin, gradients.activations + at, tokens, run.end - run.begin, gradOutput, 1, 0, layer.width);
    }
  }
}

// The runs of a visit, or of `neurons` visits of leaves, that reach over the end of a chunk, in one slab of columns: the upper levels, mostly. Their few heavy rows
// weigh as much as a lower level's many.
inline void addLongRuns(const FastFeedforward& layer, const LeafOrder& order, const FastFeedforwardGradients& gradients, size_t tree, size_t visit, size_t neurons,
                        size_t tokens, const float* source, int half, size_t column, size_t columns) {
  const size_t up = layer.levelsUp(visit), list = (tree * layer.shape.visits() + visit) * tokens;
  const float* scales = (half == 0 ? gradients.slopes : gradients.activations) + list;
  for (size_t edge = chunkPlaces; edge < tokens;) {
    const uint32_t node = order.node(edge, up);
    size_t begin = edge, end = edge;
    while (begin > 0 && order.node(begin - 1, up) == node) begin--;
    if (begin == edge) {
      edge += chunkPlaces;
      continue;
    }
    while (end < tokens && order.node(end, up) == node) end++;
    addRun(layer, gradients, layer.row(tree, visit, node), neurons, order.tokens + begin, scales + begin, tokens, end - begin, source, half, column, columns);
    edge = roundUp(end, chunkPlaces);
  }
}

inline void fffBackward(Context& context, const Arguments& a) {
  const float *input = a.floats(0), *logits = a.floats(3), *gradOutput = a.floats(4);
  const TreeShape shape{a.count(2), a.count(3), a.count(4), nullptr};
  const FastFeedforward layer{a.floats(1), a.count(1), shape};
  const int32_t* pathNodes = a.integers(2);
  float* gradInput = a.floats(5);
  FastFeedforwardGradients gradients{a.floats(6), a.floats(7), a.integers(8), nullptr, nullptr};
  const size_t tokens = a.count(0), width = layer.width, levels = shape.depth + 1, visits = shape.trees * shape.visits();
  const bool accumulate = a.flag(5);

  const uint64_t list = takes(tokens * 4), scales = gradients.nodes ? takes(uint64_t{tokens} * 4 * visits) : 0;
  char* block = static_cast<char*>(context.scratch(&context, context.threads, takes(shape.trees * sizeof(LeafOrder)) + shape.trees * 3 * list + 2 * scales));
  LeafOrder* orders = take<LeafOrder>(block, shape.trees);
  for (size_t tree = 0; tree < shape.trees; tree++) orders[tree] = {take<uint32_t>(block, tokens), take<uint32_t>(block, tokens), take<uint32_t>(block, tokens)};
  if (gradients.nodes) {
    gradients.slopes = take<float>(block, visits * tokens);
    gradients.activations = take<float>(block, visits * tokens);
  }

  bool invalid = false;
  parallel(context, shape.trees, [&](size_t tree, int worker) {
    char* mine = static_cast<char*>(context.scratch(&context, worker, 3 * list));
    uint32_t *keys = take<uint32_t>(mine, tokens), *first = take<uint32_t>(mine, tokens), *second = take<uint32_t>(mine, tokens);
    const bool valid = orderByLeaf(context, orders[tree], pathNodes + tree * levels + shape.depth, shape.trees * levels, tokens, shape.depth, keys, first, second);
    if (!valid) __atomic_store_n(&invalid, true, __ATOMIC_RELAXED);
  });
  if (invalid) return;

  // In the first tree's order, so that neighbors share rows.
  parallelRanges(context, tokens, 16, [&](size_t begin, size_t end, int) {
    VisitBlock blocks[2];
    size_t current = 0;
    blocks[0].fill(layer, orders, begin, end, 0);
    for (size_t place = begin; place < end;) {
      const VisitBlock& now = blocks[current];
      VisitBlock& next = blocks[1 - current];
      const size_t reached = now.first + now.count;
      const size_t following = reached < visits ? place : place + now.tokens;
      if (following < end) {
        next.fill(layer, orders, following, end, reached < visits ? reached : 0);
        for (size_t t = 0; t < next.tokens; t++) {
          const uint32_t* before = t > 0 ? next.rows[t - 1] : now.rows[now.tokens - 1];
          for (size_t v = 0; v < next.count; v++)
            if ((t == 0 && v >= now.count) || next.rows[t][v] != before[v]) prefetchBytes(layer.neuron(next.rows[t][v]), 2 * width * sizeof(float));
        }
      }
      const auto some = [&](auto number, const VisitBlock& block) {
        fffBackwardBlock<decltype(number)::value>(layer, block, logits, gradOutput, gradInput, accumulate, gradients, tokens);
      };
      if (now.tokens == tokensTogether) {
        some(Number<tokensTogether>{}, now);
      } else {
        VisitBlock alone = now;
        for (size_t t = 0; t < now.tokens; t++) {
          alone.token[0] = now.token[t];
          __builtin_memcpy(alone.rows[0], now.rows[t], sizeof alone.rows[0]);
          __builtin_memcpy(alone.places[0], now.places[t], sizeof alone.places[0]);
          some(Number<1>{}, alone);
        }
      }
      place = following;
      current = 1 - current;
    }
  });
  if (!gradients.nodes) return;

  const size_t chunks = (tokens + chunkPlaces - 1) / chunkPlaces, slabs = (width + slabWidth - 1) / slabWidth;
  parallel(context, shape.trees * chunks, [&](size_t task, int) {
    addChunk(layer, orders[task / chunks], gradients, task / chunks, task % chunks, tokens, input, gradOutput);
  });
  const size_t groups = shape.depth + (shape.leafWidth + leafTogether - 1) / leafTogether;
  parallel(context, 2 * slabs * shape.trees * groups, [&](size_t task, int) {
    const size_t group = task % groups, tree = task / groups % shape.trees, slab = task / groups / shape.trees;
    const size_t first = group < shape.depth ? 0 : (group - shape.depth) * leafTogether;
    const size_t visit = smaller(group, shape.depth) + first, neurons = group < shape.depth ? 1 : smaller(leafTogether, shape.leafWidth - first);
    const int half = slab >= slabs;
    const size_t column = slab % slabs * slabWidth;
    addLongRuns(layer, orders[tree], gradients, tree, visit, neurons, tokens, half ? gradOutput : input, half, column, smaller(slabWidth, width - column));
  });
}
