// Each row of the input meets its own chosen blocks of rows of the weight (see src/backend/operations/conditional_matmul.ts). Choices are sorted by block, so that the
// rows that chose a block are computed together and its weight is read once.

struct Choices {
  size_t rows, inputs, choices, blockSize, blocks;
  const int32_t* chosen;
  Choices(const Arguments& a, int operand)
      : rows(a.count(0)), inputs(a.count(1)), choices(a.count(2)), blockSize(a.count(3)), blocks(a.count(4)), chosen(a.integers(operand)) {}
  size_t count() const { return rows * choices; }
  size_t outputs() const { return choices * blockSize; }

  bool valid(Context& context, const char* format) const {
    for (size_t i = 0; i < count(); i++) {
      if (static_cast<uint32_t>(chosen[i]) < blocks) continue;
      context.fail(&context, format, chosen[i], static_cast<long long>(i / choices), static_cast<long long>(blocks));
      return false;
    }
    return true;
  }
};

// Choices that name the same block, some at a time: entries order[begin .. end), each row * choices + choice.
struct ChoiceRun {
  uint32_t block, begin, end;
};
struct SortedChoices {
  uint32_t* order;
  ChoiceRun* runs;
  size_t count = 0;
};

// In runs of at most `longest` entries. Lies in the kernel's own scratch.
inline SortedChoices sortChoices(Context& context, const Choices& choices, size_t longest) {
  const size_t count = choices.count();
  char* block = static_cast<char*>(context.scratch(&context, context.threads, 2 * takes(count * 4) + takes(uint64_t{count} * sizeof(ChoiceRun))));
  uint32_t *first = take<uint32_t>(block, count), *second = take<uint32_t>(block, count);
  SortedChoices sorted{nullptr, take<ChoiceRun>(block, count)};
  const uint32_t* keys = reinterpret_cast<const uint32_t*>(choices.chosen);
  sorted.order = sortByKey(keys, count, static_cast<uint32_t>(choices.blocks), first, second);
  for (size_t begin = 0, end; begin < count; begin = end) {
    const uint32_t key = keys[sorted.order[begin]];
    for (end = begin + 1; end < count && end - begin < longest && keys[sorted.order[end]] == key; end++) {}
    sorted.runs[sorted.count++] = {key, static_cast<uint32_t>(begin), static_cast<uint32_t>(end)};
  }
  return sorted;
}

inline void conditionalMatmul(Context& context, const Arguments& a) {
  const Choices choices(a, 2);
  if (!choices.valid(context, "conditionalMatmul: block %lld, chosen by row %lld, is not one of %lld")) return;
  const float *input = a.floats(0), *weight = a.floats(1), *bias = a.floats(3);
  float* output = a.floats(4);
  const bool accumulate = a.flag(5);
  const size_t inputs = choices.inputs, size = choices.blockSize;
  constexpr size_t longest = 64;
  const SortedChoices sorted = sortChoices(context, choices, longest);
  // By the size of a block alone, so that a sum has one order whoever shares the block. Packing a block pays only where many tokens share
  // it: at 768 inputs, blocks of 32 take 8 us a token by dots and 31 packed at batch 1, 5.0 and 8.6 at batch 128 (128 of 4096 rows chosen).
  const bool byDots = size < 64;
  const uint64_t packing = byDots ? 0 : multiplyBlockScratch(longest, size, inputs);
  parallelRanges(context, sorted.count, 262144 / (longest * size * inputs + 1) + 1, [&](size_t first, size_t last, int worker) {
    char* scratch = static_cast<char*>(context.scratch(&context, worker, takes(uint64_t{inputs} * 4 * longest) + takes(uint64_t{size} * 4 * longest) + takes(packing * 4)));
    float *gathered = take<float>(scratch, longest * inputs), *products = take<float>(scratch, longest * size), *packed = take<float>(scratch, packing);
    for (size_t r = first; r < last; r++) {
      const ChoiceRun& run = sorted.runs[r];
      const size_t count = run.end - run.begin, weightRow = run.block * size;
      const uint32_t* entries = sorted.order + run.begin;
      if (r + 1 < last) prefetchBytes(weight + sorted.runs[r + 1].block * size * inputs, smaller(size * inputs, 4096) * sizeof(float));
      if (byDots) {
        for (size_t i = 0; i < count; i++)
          for (size_t j = 0; j < size; j++) products[i * size + j] = dot(input + entries[i] / choices.choices * inputs, weight + (weightRow + j) * inputs, inputs);
      } else {
        for (size_t i = 0; i < count; i++) __builtin_memcpy(gathered + i * inputs, input + entries[i] / choices.choices * inputs, inputs * sizeof(float));
        multiplyBlock<false>(count, size, inputs, {gathered, inputs, 1}, {weight + weightRow * inputs, 1, inputs}, products, size, false, packed);
      }
      for (size_t i = 0; i < count; i++) {
        float* y = output + entries[i] * size;
        for (size_t j = 0; j < size; j++) {
          const float z = products[i * size + j] + (bias ? bias[weightRow + j] : 0.0f);
          y[j] = accumulate ? y[j] + z : z;
        }
      }
    }
  });
}

// gradInput[r] (+)= the sum of the rows that r chose, each times its gradient, in the order of the choices.
inline void conditionalMatmulBackwardInput(Context& context, const Arguments& a) {
  const Choices choices(a, 2);
  if (!choices.valid(context, "conditionalMatmulBackwardInput: block %lld, chosen by row %lld, is not one of %lld")) return;
  const float *gradOutput = a.floats(0), *weight = a.floats(1);
  float* gradInput = a.floats(3);
  const size_t outputs = choices.outputs(), size = choices.blockSize;
  parallelRanges(context, choices.rows, 65536 / (outputs * choices.inputs + 1) + 1, [&](size_t begin, size_t end, int worker) {
    uint32_t* rows = static_cast<uint32_t*>(context.scratch(&context, worker, outputs * 4));
    for (size_t r = begin; r < end; r++) {
      for (size_t o = 0; o < outputs; o++) rows[o] = static_cast<uint32_t>(choices.chosen[r * choices.choices + o / size] * size + o % size);
      sumRows(gradInput + r * choices.inputs, weight, choices.inputs, rows, gradOutput + r * outputs, outputs, choices.inputs, a.flag(5));
    }
  });
}

// gradWeight[k] += the sum of the inputs that chose row k, each times its gradient, in the order of rows and choices.
inline void conditionalMatmulBackwardWeight(Context& context, const Arguments& a) {
  const Choices choices(a, 2);
  if (!choices.valid(context, "conditionalMatmulBackwardWeight: block %lld, chosen by row %lld, is not one of %lld")) return;
  const float *input = a.floats(0), *gradOutput = a.floats(1);
  float *gradWeight = a.floats(3), *gradBias = a.floats(4);
  int32_t* rowMask = a.integers(5);
  const size_t inputs = choices.inputs, size = choices.blockSize, count = choices.count();
  const SortedChoices sorted = sortChoices(context, choices, count);
  const size_t slabs = (inputs + slabWidth - 1) / slabWidth;
  parallel(context, sorted.count * slabs, [&](size_t task, int worker) {
    const ChoiceRun& run = sorted.runs[task / slabs];
    const size_t column = task % slabs * slabWidth, columns = smaller(slabWidth, inputs - column), entries = run.end - run.begin;
    char* scratch = static_cast<char*>(context.scratch(&context, worker, 2 * takes(entries * 4)));
    uint32_t* rows = take<uint32_t>(scratch, entries);
    float* scales = take<float>(scratch, entries);
    for (size_t i = 0; i < entries; i++) rows[i] = static_cast<uint32_t>(sorted.order[run.begin + i] / choices.choices);
    for (size_t j = 0; j < size; j++) {
      const size_t row = run.block * size + j;
      for (size_t i = 0; i < entries; i++) scales[i] = gradOutput[sorted.order[run.begin + i] * size + j];
      sumRows(gradWeight + row * inputs + column, input + column, inputs, rows, scales, entries, columns, true);
      if (column > 0) continue;
      if (rowMask) rowMask[row] = 1;
      if (!gradBias) continue;
      float sum = gradBias[row];
      for (size_t i = 0; i < entries; i++) sum += scales[i];
      gradBias[row] = sum;
    }
  });
}
