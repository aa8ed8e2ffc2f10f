// The fast feedforward layer (see the contract): each token visits depth + 1 nodes of each tree. A node's w_in and w_out lie side
// by side, and nothing but the rows of visited nodes is read.

struct FastFeedforward {
  const float *nodes, *bias;
  size_t width, trees, depth;
  size_t levels() const { return depth + 1; }
  size_t nodesPerTree() const { return (size_t{2} << depth) - 1; }
};

// Lanes are (token, tree) pairs that walk down together, level by level, so that one lane's next row arrives while others compute.
constexpr size_t lanesInFlight = 16;
constexpr size_t maximumLevels = 25;

UFB_INLINE void prefetchRow(const float* row, size_t width) {
  for (size_t i = 0; i < width; i += 16) __builtin_prefetch(row + i, 0, 2);
}

// At most lanesInFlight tokens. visited and logits may be null.
inline void fffGroup(const FastFeedforward& layer, const float* input, size_t tokens, float* output, bool accumulate, int32_t* visited, float* logits) {
  const size_t width = layer.width, levels = layer.levels();
  // Few tokens, or shallow trees: several trees at once, at most lanesInFlight maximumLevels entries in all.
  size_t atOnce = lanesInFlight / (tokens > levels ? levels : tokens);
  atOnce = atOnce > layer.trees ? layer.trees : atOnce < 1 ? 1 : atOnce;
  uint32_t rows[lanesInFlight * maximumLevels];
  float z[lanesInFlight * maximumLevels], activations[lanesInFlight * maximumLevels + lanes];

  for (size_t firstTree = 0; firstTree < layer.trees; firstTree += atOnce) {
    const size_t trees = firstTree + atOnce < layer.trees ? atOnce : layer.trees - firstTree;
    for (size_t level = 0; level < levels; level++) {
      for (size_t lane = 0; lane < tokens * trees; lane++) {
        const size_t root = (firstTree + lane % trees) * layer.nodesPerTree(), entry = lane * levels + level;
        const size_t row = level == 0 ? root : rows[entry];
        const float sum = dot(input + lane / trees * width, layer.nodes + row * 2 * width, width) + layer.bias[row];
        z[entry] = sum;
        rows[entry] = static_cast<uint32_t>(row);
        if (level + 1 < levels) {
          const size_t child = root + 2 * (row - root) + 1 + (sum > 0);
          rows[entry + 1] = static_cast<uint32_t>(child);
          prefetchRow(layer.nodes + child * 2 * width, 2 * width);
        }
      }
    }
    const size_t entries = tokens * trees * levels;
    for (size_t entry = 0; entry < entries; entry += lanes) {
      const size_t n = entry + lanes <= entries ? lanes : entries - entry;
      store(activations + entry, geluValue(loadPart(z + entry, n)));
    }
    for (size_t token = 0; token < tokens; token++) {
      const size_t entry = token * trees * levels;
      sumRows(output + token * width, layer.nodes + width, 2 * width, rows + entry, activations + entry, trees * levels, width, accumulate || firstTree > 0);
      const size_t kept = (token * layer.trees + firstTree) * levels;
      for (size_t i = 0; i < trees * levels; i++) {
        if (logits) logits[kept + i] = z[entry + i];
        if (visited) visited[kept + i] = static_cast<int32_t>(rows[entry + i] - (firstTree + i / levels) * layer.nodesPerTree());
      }
    }
  }
}

inline void fff(Context& context, const Arguments& a) {
  const float* input = a.floats(0);
  FastFeedforward layer{a.floats(1), a.floats(2), a.count(1), a.count(2), a.count(3)};
  float *output = a.floats(3), *logits = a.floats(5);
  int32_t* visited = a.integers(4);
  const size_t tokens = a.count(0), kept = layer.trees * layer.levels();
  const bool accumulate = a.flag(4);
  parallelRanges(context, tokens, 16, [&](size_t begin, size_t end, int) {
    fffGroup(layer, input + begin * layer.width, end - begin, output + begin * layer.width, accumulate, visited ? visited + begin * kept : nullptr,
             logits ? logits + begin * kept : nullptr);
  });
}

// What a visit contributes to its node's gradients: w_in's is slope times the token's input, w_out's activation times its gradOutput.
struct Visits {
  float *slopes, *activations;
};

// One token: dz for each of its visits, gradInput from them, and gelu(z), if `kept` is given, for the gradients of the nodes.
inline void fffBackwardToken(const FastFeedforward& layer, const int32_t* visited, const float* logits, const float* gradOutput, float* gradInput,
                             bool accumulate, Visits* kept) {
  const size_t width = layer.width, levels = layer.levels(), entries = layer.trees * levels;
  constexpr size_t blockEntries = 32;
  uint32_t rows[blockEntries];
  float slopes[blockEntries];
  for (size_t first = 0; first < entries; first += blockEntries) {
    const size_t count = first + blockEntries < entries ? blockEntries : entries - first;
    for (size_t i = 0; i < count; i++) rows[i] = static_cast<uint32_t>((first + i) / levels * layer.nodesPerTree()) + static_cast<uint32_t>(visited[first + i]);
    for (size_t i = 0; i < count; i++) prefetchRow(layer.nodes + rows[i] * 2 * width, width);
    for (size_t i = 0; i < count; i++) slopes[i] = dot(gradOutput, layer.nodes + rows[i] * 2 * width + width, width);
    for (size_t i = 0; i < count; i += lanes) {
      const size_t n = i + lanes <= count ? lanes : count - i;
      const Vector z = loadPart(logits + first + i, n);
      storePart(slopes + i, loadPart(slopes + i, n) * geluSlope(z), n);
      if (kept) {
        storePart(kept->slopes + first + i, loadPart(slopes + i, n), n);
        storePart(kept->activations + first + i, geluValue(z), n);
      }
    }
    sumRows(gradInput, layer.nodes, 2 * width, rows, slopes, count, width, accumulate || first > 0);
  }
}

// The visits of one level of one tree in order of their nodes, tokens of one node in order; a run is the visits of one node.
struct SortedVisits {
  uint32_t *tokens, *runs, *runNodes;  // run r: visits runs[r] .. runs[r + 1] of node runNodes[r] (its row)
  float *slopes, *activations;
  size_t runCount;
};

inline void fffBackward(Context& context, const Arguments& a) {
  const float *input = a.floats(0), *logits = a.floats(3), *gradOutput = a.floats(4);
  FastFeedforward layer{a.floats(1), nullptr, a.count(1), a.count(2), a.count(3)};
  const int32_t* visited = a.integers(2);
  float *gradInput = a.floats(5), *gradNodes = a.floats(6), *gradBias = a.floats(7);
  int32_t* touched = a.integers(8);
  const size_t tokens = a.count(0), width = layer.width, levels = layer.levels(), lists = layer.trees * levels, visits = tokens * lists;
  const bool accumulate = a.flag(4), weights = gradNodes != nullptr;

  char* block = nullptr;
  if (weights) {
    const size_t list = takes(tokens * 4);
    block = static_cast<char*>(context.scratch(&context, context.threads, takes(lists * sizeof(SortedVisits)) + 2 * takes(visits * 4) + lists * (4 * list + takes(tokens * 4 + 4))));
  }
  SortedVisits* sorted = weights ? take<SortedVisits>(block, lists) : nullptr;
  float* slopes = weights ? take<float>(block, visits) : nullptr;
  float* activations = weights ? take<float>(block, visits) : nullptr;

  int strays = 0;
  parallelRanges(context, tokens, 16, [&](size_t begin, size_t end, int) {
    for (size_t t = begin; t < end; t++) {
      for (size_t l = 0; l < lists; l++) {
        const uint32_t nodes = uint32_t{1} << l % levels;
        if (static_cast<uint32_t>(visited[t * lists + l]) - (nodes - 1) < nodes) continue;
        context.fail(&context, "fffBackward: node %lld, visited by token %lld, is not on level %lld", visited[t * lists + l], static_cast<long long>(t), static_cast<long long>(l % levels));
        __atomic_store_n(&strays, 1, __ATOMIC_RELAXED);
        return;
      }
      Visits kept{slopes + t * lists, activations + t * lists};
      fffBackwardToken(layer, visited + t * lists, logits + t * lists, gradOutput + t * width, gradInput + t * width, accumulate, weights ? &kept : nullptr);
    }
  });
  if (!weights || strays) return;

  for (size_t l = 0; l < lists; l++) {
    SortedVisits& list = sorted[l];
    list.tokens = take<uint32_t>(block, tokens);
    list.runs = take<uint32_t>(block, tokens + 1);
    list.runNodes = take<uint32_t>(block, tokens);
    list.slopes = take<float>(block, tokens);
    list.activations = take<float>(block, tokens);
  }
  parallel(context, lists, [&](size_t l, int worker) {
    SortedVisits& list = sorted[l];
    const size_t level = l % levels, root = l / levels * layer.nodesPerTree();
    const uint32_t firstNode = (uint32_t{1} << level) - 1;
    char* mine = static_cast<char*>(context.scratch(&context, worker, 3 * takes(tokens * 4)));
    uint32_t *keys = take<uint32_t>(mine, tokens), *order = take<uint32_t>(mine, tokens), *spare = take<uint32_t>(mine, tokens);
    for (size_t t = 0; t < tokens; t++) keys[t] = static_cast<uint32_t>(visited[t * lists + l]) - firstNode;
    const uint32_t* byNode = sortByKey(keys, tokens, uint32_t{1} << level, order, spare);
    size_t runs = 0;
    for (size_t i = 0; i < tokens; i++) {
      const uint32_t t = byNode[i];
      list.tokens[i] = t;
      list.slopes[i] = slopes[t * lists + l];
      list.activations[i] = activations[t * lists + l];
      if (i > 0 && keys[t] == keys[byNode[i - 1]]) continue;
      list.runs[runs] = static_cast<uint32_t>(i);
      list.runNodes[runs++] = static_cast<uint32_t>(root + firstNode + keys[t]);
    }
    list.runs[runs] = static_cast<uint32_t>(tokens);
    list.runCount = runs;
  });

  // A task is one level of one tree in one slab of columns, of w_in or w_out: every task meets every token once, however the tokens
  // spread over the nodes, so the upper levels' heavy rows weigh as much as the lower levels' many light ones.
  constexpr size_t ahead = 8;
  const size_t slabs = (width + slabWidth - 1) / slabWidth;
  parallel(context, 2 * slabs * lists, [&](size_t task, int) {
    const SortedVisits& list = sorted[task % lists];
    const bool out = task / lists >= slabs;
    const size_t column = task / lists % slabs * slabWidth, columns = column + slabWidth < width ? slabWidth : width - column;
    const float *source = (out ? gradOutput : input) + column, *scales = out ? list.activations : list.slopes;
    for (size_t run = 0; run < list.runCount; run++) {
      const size_t node = list.runNodes[run], begin = list.runs[run], end = list.runs[run + 1];
      if (run + ahead < list.runCount) {
        const float* next = gradNodes + list.runNodes[run + ahead] * 2 * width + (out ? width : 0) + column;
        for (size_t i = 0; i < columns; i += 16) __builtin_prefetch(next + i, 1, 2);
      }
      if (end + ahead < tokens) { const float* next = source + list.tokens[end + ahead] * width; for (size_t i = 0; i < columns; i += 16) __builtin_prefetch(next + i, 0, 3); }
      sumRows(gradNodes + node * 2 * width + (out ? width : 0) + column, source, width, list.tokens + begin, scales + begin, end - begin, columns, true);
      if (column > 0 || out) continue;
      float sum = gradBias[node];
      for (size_t i = begin; i < end; i++) sum += scales[i];
      gradBias[node] = sum;
      touched[node] = 1;
    }
  });
}
