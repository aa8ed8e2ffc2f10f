// Products with prepared weights (see PreparedWeight): output = activation(input weight^T + bias), the weight packed once for all calls.
//
// The weight lies in panels of tileColumns outputs, in which `group` neighbors of the inner dimension stand together: one number in f32,
// two or four in bf16, two, four or eight in i8, whatever one instruction multiplies and sums. Inputs in f32 are read where they lie, others are rounded
// at each call, in panels of tileRows rows. An output is summed over the whole inner dimension in registers, in one order whatever the rows and threads.

// Groups of an inner dimension of `inputs`; what is missing of the last is zero.
template <class Product> inline size_t groupsOf(size_t inputs) { return (inputs + Product::group - 1) / Product::group; }

// Where i8's scales begin, one an output: behind the weight's bytes, both of its sides padded to 64 as in PreparedWeight.bytes.
inline float* linearScales(void* data, size_t outputs, size_t inputs) {
  return reinterpret_cast<float*>(static_cast<uint8_t*>(data) + roundUp(outputs, 64) * roundUp(inputs, 64));
}

// ------------------------------------------------------------------ preparing

// One output's row into its place in its panel: element i of the row becomes panel[i / group][column][i % group].
template <class Product>
inline void placeColumn(const typename Product::Right* row, size_t outputs, size_t inputs, size_t output, typename Product::Right padding, typename Product::Right* data) {
  const size_t groups = groupsOf<Product>(inputs), panel = output / tileColumns * tileColumns;
  const size_t width = smaller(tileColumns, roundUp(outputs - panel, lanes));
  typename Product::Right* to = data + panel * groups * Product::group;
  for (size_t i = 0; i < groups * Product::group; i++) to[(i / Product::group * width + output - panel) * Product::group + i % Product::group] = i < inputs ? row[i] : padding;
}

typedef uint16_t Bf16Halves __attribute__((vector_size(lanes * 2)));

inline void prepareLinear(Context& context, const Arguments& a) {
  const float* weight = a.floats(0);
  void* data = a.operands[1];
  const size_t outputs = a.count(0), inputs = a.count(1), padded = roundUp(inputs, rowPadding);
  const Precision precision = static_cast<Precision>(a.count(2));
  parallelRanges(context, roundUp(outputs, lanes), tileColumns, [&](size_t begin, size_t end, int worker) {
    char* scratch = static_cast<char*>(context.scratch(&context, worker, takes(padded * 4)));
    for (size_t output = begin; output < end; output++) {
      const float* row = weight + output * inputs;
      const bool absent = output >= outputs;  // panels end with whole vectors
      if (precision == Precision::f32) {
        float* values = reinterpret_cast<float*>(scratch);
        for (size_t i = 0; i < inputs; i++) values[i] = absent ? 0 : row[i];
        placeColumn<FloatProduct>(values, outputs, inputs, output, 0, static_cast<float*>(data));
      } else if (precision == Precision::bf16) {
        uint16_t* values = reinterpret_cast<uint16_t*>(scratch);
        eachVector(0, inputs, [&](size_t i, size_t n) {
          const Bf16Halves halves = absent ? Bf16Halves{} : __builtin_convertvector(roundToUpperHalf(loadUpTo(row + i, n)) >> 16, Bf16Halves);
          __builtin_memcpy(values + i, &halves, sizeof halves);
        });
        placeColumn<Bf16Product>(values, outputs, inputs, output, 0, static_cast<uint16_t*>(data));
      } else {
        uint8_t* values = reinterpret_cast<uint8_t*>(scratch);
        const RowScale scale = absent ? RowScale{0, 0} : rowScale(row, inputs);
        if (!(scale.scale < __builtin_inff())) {
          context.fail(&context, "prepareLinear: the weights of output %lld are not finite and cannot be rounded to i8", static_cast<long long>(output), 0, 0);
          continue;
        }
        quantizeRow(row, absent ? 0 : inputs, padded, scale.inverse, weightOffset, values);
        placeColumn<Int8Product>(values, outputs, inputs, output, weightOffset, static_cast<uint8_t*>(data));
        linearScales(data, outputs, inputs)[output] = scale.scale;
      }
    }
  });
}

// ------------------------------------------------------------------ packing inputs

// Rows [0, rows) of the input, at most tileRows, as packed[group][row]; `quantized` is one a row.
inline void packInputs(Bf16Product, const float* input, size_t rows, size_t inputs, Bf16Product::Left* packed, QuantizedInput*, char* scratch) {
  const size_t groups = groupsOf<Bf16Product>(inputs), padded = roundUp(inputs, rowPadding);
  float* rounded = reinterpret_cast<float*>(scratch);
  for (size_t r = 0; r < rows; r++) {
    const float* row = input + r * inputs;
    for (size_t i = 0; i < padded; i += lanes) store(rounded + i, i < inputs ? roundToBf16(loadUpTo(row + i, smaller(lanes, inputs - i))) : zero());
#if defined(UFB_MATRIX_INSTRUCTIONS)
    uint16_t* halves = reinterpret_cast<uint16_t*>(scratch);  // the upper one of each float, moved to the front
    for (size_t i = 0; i < groups * Bf16Product::group; i++) halves[i] = halves[2 * i + 1];
    for (size_t g = 0; g < groups; g++) __builtin_memcpy(packed + g * rows + r, halves + 4 * g, 8);
#elif defined(__AVX512BF16__)
    const uint16_t* halves = reinterpret_cast<const uint16_t*>(rounded);  // the upper one of each float
    for (size_t g = 0; g < groups; g++) packed[g * rows + r] = halves[4 * g + 1] | static_cast<uint32_t>(halves[4 * g + 3]) << 16;
#else
    for (size_t g = 0; g < groups; g++) packed[g * rows + r] = {rounded[2 * g], rounded[2 * g + 1]};
#endif
  }
}
inline void packInputs(Int8Product, const float* input, size_t rows, size_t inputs, Int8Product::Left* packed, QuantizedInput* quantized, char* scratch) {
  const size_t groups = groupsOf<Int8Product>(inputs);
  int8_t* bytes = reinterpret_cast<int8_t*>(scratch);
  for (size_t r = 0; r < rows; r++) {
    quantized[r] = quantizeInputRow(input + r * inputs, inputs, bytes);
    for (size_t g = 0; g < groups; g++) {
      if constexpr (Int8Product::group >= 4) __builtin_memcpy(packed + g * rows + r, bytes + Int8Product::group * g, Int8Product::group);
      else packed[g * rows + r] = static_cast<int32_t>((static_cast<uint32_t>(bytes[2 * g]) & 0xffffu) | static_cast<uint32_t>(bytes[2 * g + 1]) << 16);
    }
  }
}

// ------------------------------------------------------------------ tiles

// Where a tile's sums go.
struct LinearOutputs {
  float* output;
  size_t outputs;
  const float *bias, *scales;  // scales: of i8's outputs
  bool gelu, accumulate;
};

template <class Sum> UFB_INLINE Vector valueOf(Sum sum, const QuantizedInput* quantized, const float* scales, size_t n) {
  if constexpr (__is_same(Sum, IntVector)) {
    return __builtin_convertvector(sum - weightOffset * quantized->sum, Vector) * (splat(quantized->scale) * loadUpTo(scales, n));
  } else {
    return sum;
  }
}

// A tile's sums over the whole inner dimension.
template <class Product, int rows, int vectors>
UFB_INLINE void sumTile(size_t groups, const typename Product::Left* a, size_t aRow, const typename Product::Right* b, typename Product::Sum (&sum)[rows][vectors]) {
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++) sum[i][j] = typename Product::Sum{};
  for (size_t g = 0; g < groups; g++) {
    decltype(Product::right(b)) right[vectors];
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++) right[j] = Product::right(b + j * lanes * Product::group);
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 4
      for (int j = 0; j < vectors; j++) sum[i][j] = Product::multiply(a[Product::rounds ? i : i * aRow], right[j], sum[i][j]);
    }
    a += Product::rounds ? rows : 1;
    b += vectors * lanes * Product::group;
  }
}

#if defined(UFB_MATRIX_INSTRUCTIONS)
// The same by instructions that multiply two rows by two outputs. Of an odd number of rows the last one is its own neighbor.
template <class Product, int rows, int vectors>
UFB_INLINE void sumTileByPairs(size_t groups, const typename Product::Left* a, const typename Product::Right* b, typename Product::Sum (&sum)[rows][vectors]) {
  constexpr int pairs = (rows + 1) / 2;
  typename Product::Sum square[pairs][2 * vectors];
#pragma GCC unroll 16
  for (int i = 0; i < pairs; i++)
#pragma GCC unroll 8
    for (int j = 0; j < 2 * vectors; j++) square[i][j] = typename Product::Sum{};
  for (size_t g = 0; g < groups; g++) {
    uint8x16_t right[2 * vectors];
#pragma GCC unroll 8
    for (int j = 0; j < 2 * vectors; j++) right[j] = vld1q_u8(reinterpret_cast<const uint8_t*>(b) + 16 * j);
#pragma GCC unroll 16
    for (int i = 0; i < pairs; i++) {
      const uint8x16_t left = vreinterpretq_u8_u64(2 * i + 1 < rows ? vld1q_u64(a + 2 * i) : vdupq_n_u64(a[2 * i]));
#pragma GCC unroll 8
      for (int j = 0; j < 2 * vectors; j++) square[i][j] = Product::multiply(left, right[j], square[i][j]);
    }
    a += rows;
    b += vectors * lanes * Product::group;
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++) {
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++) {
      const auto first = square[i / 2][2 * j], second = square[i / 2][2 * j + 1];
      sum[i][j] = i % 2 == 0 ? UFB_SHUFFLE(first, second, 0, 1, 4, 5) : UFB_SHUFFLE(first, second, 2, 3, 6, 7);
    }
  }
}
#endif

// What becomes of a tile's sums, `vectors` to a row. Apart from the tiles, of which there are many: within each it was two thirds of the code.
template <class Sum>
inline __attribute__((noinline)) void finishPreparedTile(const Sum* sum, size_t rows, size_t vectors, const QuantizedInput* quantized, const LinearOutputs& to, size_t row, size_t column,
                                                         size_t columns) {
  for (size_t j = 0; j < vectors; j++) {
    const size_t at = column + j * lanes, n = j < vectors - 1 ? lanes : columns - (vectors - 1) * lanes;
    const Vector bias = to.bias ? loadUpTo(to.bias + at, n) : zero();
    for (size_t i = 0; i < rows; i++) {
      float* y = to.output + (row + i) * to.outputs + at;
      Vector z = valueOf(sum[i * vectors + j], quantized + i, to.scales + at, n) + bias;
      if (to.gelu) z = geluValue(z);
      storeUpTo(y, to.accumulate ? loadUpTo(y, n) + z : z, n);
    }
  }
}

// Outputs [row, row + rows) x [column, column + columns): `columns` fill the last of `vectors` vectors at least in part.
template <class Product, int rows, int vectors>
inline void preparedTile(size_t groups, const typename Product::Left* a, size_t aRow, const typename Product::Right* b, const QuantizedInput* quantized, const LinearOutputs& to,
                         size_t row, size_t column, size_t columns) {
  typename Product::Sum sum[rows][vectors];
#if defined(UFB_MATRIX_INSTRUCTIONS)
  if constexpr (Product::pairs) sumTileByPairs<Product, rows, vectors>(groups, a, b, sum);
  else
#endif
    sumTile<Product, rows, vectors>(groups, a, aRow, b, sum);
  finishPreparedTile(&sum[0][0], rows, vectors, quantized, to, row, column, columns);
}

template <class Product> using PreparedTile = void (*)(size_t, const typename Product::Left*, size_t, const typename Product::Right*, const QuantizedInput*, const LinearOutputs&, size_t, size_t, size_t);
template <class Product, int rows, int vectors> inline PreparedTile<Product> preparedTileOf(size_t wanted) {
  if constexpr (rows > 1) {
    if (wanted != rows) return preparedTileOf<Product, rows - 1, vectors>(wanted);
  }
  return preparedTile<Product, rows, vectors>;
}
template <class Product> inline PreparedTile<Product> preparedTileFor(size_t rows, size_t columns) {
  const size_t vectors = (columns + lanes - 1) / lanes;
  if constexpr (tileVectors > 2) {
    if (vectors == 3) return preparedTileOf<Product, tileRows, 3>(rows);
  }
  return vectors == 2 ? preparedTileOf<Product, tileRows, 2>(rows) : preparedTileOf<Product, tileRows, 1>(rows);
}

// ------------------------------------------------------------------ all of it

template <class Product> inline void multiplyPrepared(Context& context, const float* input, size_t rows, size_t inputs, const void* data, const LinearOutputs& to) {
  if (rows == 0 || to.outputs == 0) return;
  const size_t groups = groupsOf<Product>(inputs), outputs = to.outputs;
  const typename Product::Left* left;
  QuantizedInput* quantized = nullptr;
  if constexpr (Product::rounds) {
    char* block = static_cast<char*>(context.scratch(&context, context.threads, takes(uint64_t{rows} * groups * sizeof(typename Product::Left)) + takes(uint64_t{rows} * sizeof(QuantizedInput))));
    typename Product::Left* packed = take<typename Product::Left>(block, rows * groups);
    quantized = take<QuantizedInput>(block, rows);
    left = packed;
    const size_t tiles = (rows + tileRows - 1) / tileRows;
    parallelRanges(context, tiles, 16384 / (tileRows * inputs + 1) + 1, [&](size_t begin, size_t end, int worker) {
      char* scratch = static_cast<char*>(context.scratch(&context, worker, takes(roundUp(inputs, rowPadding) * 4)));
      for (size_t tile = begin; tile < end; tile++) {
        const size_t row = tile * tileRows;
        packInputs(Product{}, input + row * inputs, smaller(tileRows, rows - row), inputs, packed + row * groups, quantized + row, scratch);
      }
    });
  } else {
    left = input;
  }
  // A task's inputs and one panel of the weight should stay in the second-level cache; tasks of less than some microseconds do not pay.
  constexpr size_t taskRows = 128 / tileRows * tileRows;
  const size_t panels = (outputs + tileColumns - 1) / tileColumns, rowTasks = (rows + taskRows - 1) / taskRows;
  const size_t worth = 1000000 / (smaller(rows, taskRows) * tileColumns * inputs + 1) + 1;
  const size_t most = (panels + 2 * static_cast<size_t>(context.threads) - 1) / (2 * static_cast<size_t>(context.threads));
  const size_t taskPanels = smaller(worth, most), columnTasks = (panels + taskPanels - 1) / taskPanels;
  parallel(context, rowTasks * columnTasks, [&](size_t task, int) {
    const size_t firstRow = task / columnTasks * taskRows, lastRow = smaller(firstRow + taskRows, rows);
    const size_t firstColumn = task % columnTasks * taskPanels * tileColumns, lastColumn = smaller(firstColumn + taskPanels * tileColumns, outputs);
    for (size_t column = firstColumn; column < lastColumn; column += tileColumns) {
      const size_t columns = smaller(tileColumns, outputs - column);
      const typename Product::Right* b = static_cast<const typename Product::Right*>(data) + column * groups * Product::group;
      for (size_t row = firstRow; row < lastRow; row += tileRows) {
        const size_t count = smaller(tileRows, rows - row);
        preparedTileFor<Product>(count, columns)(groups, left + row * groups, inputs, b, quantized + row, to, row, column, columns);
      }
    }
  });
}

inline void linearPrepared(Context& context, const Arguments& a) {
  const size_t rows = a.count(0), inputs = a.count(1), outputs = a.count(2);
  void* data = a.operands[1];
  const LinearOutputs to{a.floats(3), outputs, a.floats(2), linearScales(data, outputs, inputs), a.flag(3), a.flag(4)};
  switch (static_cast<Precision>(a.count(5))) {
    case Precision::f32: return multiplyPrepared<FloatProduct>(context, a.floats(0), rows, inputs, data, to);
    case Precision::bf16: return multiplyPrepared<Bf16Product>(context, a.floats(0), rows, inputs, data, to);
    case Precision::i8: return multiplyPrepared<Int8Product>(context, a.floats(0), rows, inputs, data, to);
  }
}
