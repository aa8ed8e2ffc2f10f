// What keeps the splits of a fast feedforward layer even (see src/backend/operations/fff.ts): how many tokens went to each side, and the thresholds that
// follow from it. A few tens of microseconds for a step's tokens: handing parts to other threads would take as long.

inline void countSplits(Context& context, const Arguments& a) {
  const int32_t* pathNodes = a.integers(0);
  int32_t* counts = a.integers(1);
  const size_t walks = a.count(0) * a.count(1), trees = a.count(1), depth = a.count(2), inner = (size_t{1} << depth) - 1;
  for (size_t walk = 0; walk < walks; walk++) {
    const int32_t* path = pathNodes + walk * (depth + 1);
    for (size_t level = 0; level < depth; level++) {
      const size_t first = (size_t{1} << level) - 1, node = static_cast<size_t>(path[level]);
      const size_t right = static_cast<size_t>(path[level + 1]) - (2 * node + 1);
      if (node < first || node > 2 * first || right > 1)
        return context.fail(&context, "countSplits: the nodes visited are no paths of trees of depth %lld", static_cast<long long>(depth), 0, 0);
      counts[(walk % trees * inner + node) * 2 + right]++;
    }
  }
}

inline void balanceThresholds(Context&, const Arguments& a) {
  int32_t* counts = a.integers(0);
  float* thresholds = a.floats(1);
  const size_t nodes = a.count(0);
  const float rate = a.number(1), pseudoCount = a.number(2);
  for (size_t node = 0; node < nodes; node++) {
    const float left = static_cast<float>(counts[2 * node]), right = static_cast<float>(counts[2 * node + 1]);
    if (left + right > 0) thresholds[node] += rate * (right - left) / (left + right + pseudoCount);
    counts[2 * node] = counts[2 * node + 1] = 0;
  }
}
