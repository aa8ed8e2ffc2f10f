// input [rows, inputs], weight [outputs, inputs], output [rows, outputs]; see matrix_multiply.h for how it is computed.

inline void multiplyIn(Precision precision, Context& context, size_t m, size_t n, size_t k, const Matrix& a, const Matrix& b, float* c, bool accumulate,
                       const Epilogue& epilogue) {
  if (precision == Precision::bf16) multiply<true>(context, m, n, k, a, b, c, accumulate, epilogue);
  else multiply<false>(context, m, n, k, a, b, c, accumulate, epilogue);
}

inline void linear(Context& context, const Arguments& a) {
  const size_t rows = a.count(0), inputs = a.count(1), outputs = a.count(2);
  multiplyIn(static_cast<Precision>(a.count(5)), context, rows, outputs, inputs, {a.floats(0), inputs, 1}, {a.floats(1), 1, inputs}, a.floats(3), a.flag(4), {a.floats(2), a.flag(3), a.floats(4)});
}

inline void linearBackwardInput(Context& context, const Arguments& a) {
  const size_t rows = a.count(0), inputs = a.count(1), outputs = a.count(2);
  multiplyIn(static_cast<Precision>(a.count(4)), context, rows, inputs, outputs, {a.floats(0), outputs, 1}, {a.floats(1), inputs, 1}, a.floats(2), a.flag(3), {});
}

// gradWeight += gradOutput^T input; gradBias += column sums of gradOutput, in order of the rows.
inline void linearBackwardWeight(Context& context, const Arguments& a) {
  const size_t rows = a.count(0), inputs = a.count(1), outputs = a.count(2);
  const float* gradOutput = a.floats(1);
  multiplyIn(static_cast<Precision>(a.count(3)), context, outputs, inputs, rows, {gradOutput, 1, outputs}, {a.floats(0), inputs, 1}, a.floats(2), true, {});
  float* gradBias = a.floats(3);
  if (!gradBias) return;
  const size_t columns = roundUp(32768 / (rows + 1) + 1, 4 * lanes);
  parallelRanges(context, outputs, columns, [&](size_t begin, size_t end, int) {
    for (size_t j = begin; j < end; j += 4 * lanes) {
      Vector sum[4] = {zero(), zero(), zero(), zero()};
      const size_t n = smaller(4 * lanes, end - j), whole = n / lanes, rest = n % lanes;
      for (size_t r = 0; r < rows; r++) {
        const float* from = gradOutput + r * outputs + j;
        if (n == 4 * lanes) {
          for (int v = 0; v < 4; v++) sum[v] += load(from + v * lanes);
        } else {
          for (size_t v = 0; v < whole; v++) sum[v] += load(from + v * lanes);
          if (rest > 0) sum[whole] += loadPart(from + whole * lanes, rest);
        }
      }
      for (size_t v = 0; v < whole; v++) store(gradBias + j + v * lanes, load(gradBias + j + v * lanes) + sum[v]);
      if (rest > 0) storePart(gradBias + j + whole * lanes, loadPart(gradBias + j + whole * lanes, rest) + sum[whole], rest);
    }
  });
}
