// Sums of all elements. Long ones go in fixed pieces, each summed in double precision, added up in their order: no dependence on the threads.

// The sum of term(vector) over n elements: in single precision within 1024 of them, in double beyond. term(0) must be 0.
template <class Term>
UFB_INLINE double sumTerms(const float* x, size_t n, Term&& term) {
  double total = 0;
  for (size_t begin = 0; begin < n; begin += 1024) {
    const size_t end = begin + 1024 < n ? begin + 1024 : n;
    Vector sum0 = zero(), sum1 = zero();
    size_t i = begin;
    for (; i + 2 * lanes <= end; i += 2 * lanes) {
      sum0 += term(load(x + i));
      sum1 += term(load(x + i + lanes));
    }
    eachVector(i, end, [&](size_t j, size_t count) { sum0 += term(loadUpTo(x + j, count)); });
    total += static_cast<double>(sumLanes(sum0 + sum1));
  }
  return total;
}

// The sum over [0, count) of partial(begin, end), in pieces of `grain`.
template <class Partial>
UFB_INLINE double sumPieces(Context& context, size_t count, size_t grain, Partial&& partial) {
  const size_t pieces = (count + grain - 1) / grain;
  double* sums = static_cast<double*>(context.scratch(&context, context.threads, (pieces + 1) * sizeof(double)));
  parallelRanges(context, count, grain, [&](size_t begin, size_t end, int) { sums[begin / grain] = partial(begin, end); });
  double total = 0;
  for (size_t piece = 0; piece < pieces; piece++) total += sums[piece];
  return total;
}

inline void sum(Context& context, const Arguments& a) {
  const float* input = a.floats(0);
  float* output = a.floats(1);
  const double total = sumPieces(context, a.count(0), pieceSize, [&](size_t begin, size_t end) {
    return sumTerms(input + begin, end - begin, [](Vector v) { return v; });
  });
  output[0] = static_cast<float>(a.flag(1) ? static_cast<double>(output[0]) + total : total);
}

inline void sumOfSquares(Context& context, const Arguments& a) {
  const float* input = a.floats(0);
  const int32_t* rowMask = a.integers(1);
  const size_t rows = a.count(0), width = a.count(1);
  const auto squares = [&](size_t begin, size_t end) { return sumTerms(input + begin, end - begin, [](Vector v) { return v * v; }); };
  const double total = rowMask ? sumPieces(context, rows, rowsPerPiece(width), [&](size_t begin, size_t end) {
    double subtotal = 0;
    for (size_t r = begin; r < end; r++)
      if (rowMask[r]) subtotal += squares(r * width, (r + 1) * width);
    return subtotal;
  }) : sumPieces(context, rows * width, pieceSize, squares);
  a.floats(2)[0] = static_cast<float>(total);
}
