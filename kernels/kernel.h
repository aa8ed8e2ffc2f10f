// What every kernel is handed, and how it shares its work among threads. No standard library: kernels are compiled once per
// instruction set, and nothing that an inline function could leak between them may be included (design: one translation unit each).
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace ufb {

// The runtime's side, behind plain function pointers so that it is compiled once, for the baseline.
struct Context {
  int threads;
  // Calls task(data, index, worker) for every index in [0, count), worker in [0, threads); returns when all are done.
  // Which worker takes which index is not fixed, so a result must not depend on it.
  void (*run)(Context*, void (*task)(void* data, size_t index, int worker), void* data, size_t count);
  // Memory of one worker, 64-byte aligned, valid until this worker asks again; contents are not kept. worker == threads is a block that
  // belongs to the kernel as a whole (ask for it outside of parallel). Sizes have 64 bits where addresses have 32 too: a product that wrapped
  // around would be granted.
  void* (*scratch)(Context*, int worker, uint64_t bytes);
  // Records a late error (the first one wins) that surfaces where values are read. printf-style with up to three integers (%lld).
  void (*fail)(Context*, const char* format, long long a, long long b, long long c);
};

// Operands and numbers in the order of the operation's definition (src/backend/operations/). An absent operand is null.
struct Arguments {
  void* const* operands;
  const double* numbers;
  float* floats(int i) const { return static_cast<float*>(operands[i]); }
  int32_t* integers(int i) const { return static_cast<int32_t*>(operands[i]); }
  size_t count(int i) const { return static_cast<size_t>(numbers[i]); }
  float number(int i) const { return static_cast<float>(numbers[i]); }
  bool flag(int i) const { return numbers[i] != 0; }
};

using Kernel = void (*)(Context&, const Arguments&);
struct KernelEntry {
  const char* name;
  Kernel kernel;
};

// A constant that picks a template by an argument.
template <int n> struct Number { static constexpr int value = n; };

template <class T> struct Plain { using Type = T; };
template <class T> struct Plain<T&> { using Type = T; };

// body(index, worker) for every index in [0, count), shared among the threads.
template <class Body>
inline __attribute__((always_inline)) void parallel(Context& context, size_t count, Body&& body) {
  if (count == 1 || context.threads == 1) {
    for (size_t index = 0; index < count; index++) body(index, 0);
  } else if (count > 1) {
    auto task = [](void* data, size_t index, int worker) { (*static_cast<typename Plain<Body>::Type*>(data))(index, worker); };
    context.run(&context, task, const_cast<void*>(static_cast<const void*>(&body)), count);
  }
}

// body(begin, end, worker) over [0, count) in pieces of at most `grain`, a size that does not depend on the threads.
template <class Body>
inline __attribute__((always_inline)) void parallelRanges(Context& context, size_t count, size_t grain, Body&& body) {
  if (count == 0) return;  // whoever has nothing to share may come with a grain of 0
  size_t pieces = (count + grain - 1) / grain;
  parallel(context, pieces, [&](size_t piece, int worker) {
    size_t begin = piece * grain, end = begin + grain < count ? begin + grain : count;
    body(begin, end, worker);
  });
}

// A kernel's scratch in parts: takes(count x size) bytes for each when asking, then each taken off the front, 64-byte aligned.
inline __attribute__((always_inline)) uint64_t takes(uint64_t bytes) { return (bytes + 63) / 64 * 64; }
template <class T> inline __attribute__((always_inline)) T* take(char*& block, size_t count) {
  T* part = reinterpret_cast<T*>(block);
  block += takes(count * sizeof(T));
  return part;
}

}  // namespace ufb
