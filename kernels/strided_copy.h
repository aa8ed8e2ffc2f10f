// Values of a file to where a layout wants them, as float32: stretches, or a transposition. See src/backend/operations/strided_copy.ts.

enum class FileType { f32, bf16, f16 };  // as the operation numbers them

typedef uint16_t HalfVector __attribute__((vector_size(lanes * 2)));

// The first n values at p, which need not be aligned; the others are 0.
template <FileType type>
UFB_INLINE Vector loadValues(const uint8_t* p, size_t n) {
  if constexpr (type == FileType::f32) {
    Vector v{};
    if (n == lanes) __builtin_memcpy(&v, p, sizeof v);
    else __builtin_memcpy(&v, p, n * 4);
    return v;
  } else {
    HalfVector halves{};
    if (n == lanes) __builtin_memcpy(&halves, p, sizeof halves);
    else __builtin_memcpy(&halves, p, n * 2);
    const UnsignedVector bits = __builtin_convertvector(halves, UnsignedVector);
    if constexpr (type == FileType::bf16) return reinterpret_cast<Vector>(bits << 16);
    const UnsignedVector exponent = bits >> 10 & 31u, fraction = bits & 1023u;
    // Small numbers by way of integers: as floats, the processor would take them for 0.
    const Vector small = __builtin_convertvector(reinterpret_cast<IntVector>(fraction), Vector) * splat(0x1p-24f);
    const UnsignedVector large = (exponent == 31u ? UnsignedVector{} + 255u : exponent + 112u) << 23 | fraction << 13;
    const UnsignedVector magnitude = exponent == 0u ? reinterpret_cast<UnsignedVector>(small) : large;
    return reinterpret_cast<Vector>(magnitude | (bits & 0x8000u) << 16);
  }
}

template <FileType type>
inline void stridedCopyValues(Context& context, const Arguments& a) {
  constexpr size_t bytes = type == FileType::f32 ? 4 : 2;
  const uint8_t* input = static_cast<const uint8_t*>(a.operands[0]);
  size_t rows = a.count(1), columns = a.count(2), rowStride = a.count(4);
  const size_t columnStride = a.count(5);
  float* output = a.floats(1) + a.count(3);
  bool strange = false;
  const auto report = [&](Vector differences) {  // 0, or NaN where a value is not finite
    const float sum = sumLanes(differences);
    if (sum != sum) __atomic_store_n(&strange, true, __ATOMIC_RELAXED);
  };

  if (columns == 1 || columnStride == 1) {
    if (rowStride == columns || rows == 1) {
      columns *= rows;
      rows = 1;
    }
    const size_t perRow = (columns + pieceSize - 1) / pieceSize;
    parallelRanges(context, rows * perRow, roundUp(pieceSize, columns) / columns, [&](size_t begin, size_t end, int) {
      Vector differences = zero();
      for (size_t piece = begin; piece < end; piece++) {
        const size_t row = piece / perRow, first = piece % perRow * pieceSize;
        const uint8_t* from = input + row * columns * bytes;
        float* to = output + row * rowStride;
        eachVector(first, smaller(first + pieceSize, columns), [&](size_t i, size_t n) {
          const Vector x = loadValues<type>(from + i * bytes, n);
          differences += x - x;
          storeUpTo(to + i, x, n);
        });
      }
      report(differences);
    });
  } else {
    // Squares of 16 x 16 by way of a buffer, several beside each other, so that whole cache lines are read and written.
    constexpr size_t side = 16, beside = 64;
    parallelRanges(context, columns, beside, [&](size_t begin, size_t end, int) {
      Vector differences = zero();
      float square[side][beside];
      for (size_t top = 0; top < rows; top += side) {
        const size_t height = smaller(side, rows - top);
        for (size_t r = 0; r < height; r++) {
          const uint8_t* from = input + ((top + r) * columns + begin) * bytes;
          eachVector(0, end - begin, [&](size_t i, size_t n) {
            const Vector x = loadValues<type>(from + i * bytes, n);
            differences += x - x;
            storeUpTo(square[r] + i, x, n);
          });
        }
        for (size_t c = 0; c < end - begin; c++) {
          float* to = output + top * rowStride + (begin + c) * columnStride;
          for (size_t r = 0; r < height; r++) to[r * rowStride] = square[r][c];
        }
      }
      report(differences);
    });
  }
  if (strange) context.fail(&context, "stridedCopy: the input holds a value that is not finite", 0, 0, 0);
}

inline void stridedCopy(Context& context, const Arguments& a) {
  if (a.count(1) == 0 || a.count(2) == 0) return;
  switch (static_cast<FileType>(a.count(0))) {
    case FileType::f32: return stridedCopyValues<FileType::f32>(context, a);
    case FileType::bf16: return stridedCopyValues<FileType::bf16>(context, a);
    case FileType::f16: return stridedCopyValues<FileType::f16>(context, a);
  }
}
