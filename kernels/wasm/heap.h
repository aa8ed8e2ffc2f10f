// The memory of the WASM builds beyond code and stacks.
#pragma once
#include <stddef.h>
#include <stdint.h>

extern "C" {
extern unsigned char __heap_base;
}

namespace ufb {

constexpr size_t pageSize = 65536;

// Blocks come in sizes of which there are eight to each doubling. One that is given back waits for the next of its size: a program whose
// needs repeat takes no more memory from the second round on.
class Heap {
 public:
  // Null if there is no memory. 64-byte aligned.
  void* allocate(uint64_t bytes) {
    if (bytes > uint64_t{1} << 32) return nullptr;
    const Size size = sizeFor(bytes);
    Block*& free = free_[size.index];
    if (free) {
      Block* block = free;
      free = block->next;
      return block;
    }
    if (!next_) next_ = (reinterpret_cast<uintptr_t>(&__heap_base) + 63) / 64 * 64;
    const uint64_t end = next_ + size.bytes, have = static_cast<uint64_t>(__builtin_wasm_memory_size(0)) * pageSize;
    if (end > uint64_t{1} << 32) return nullptr;
    if (end > have && __builtin_wasm_memory_grow(0, (end - have + pageSize - 1) / pageSize) == SIZE_MAX) return nullptr;
    void* block = reinterpret_cast<void*>(static_cast<uintptr_t>(next_));
    next_ = end;
    return block;
  }
  void release(void* memory, uint64_t bytes) {
    if (!memory) return;
    Block* block = static_cast<Block*>(memory);
    Block*& free = free_[sizeFor(bytes).index];
    block->next = free;
    free = block;
  }

 private:
  struct Block {
    Block* next;
  };
  struct Size {
    uint64_t bytes;
    int index;
  };
  static Size sizeFor(uint64_t bytes) {
    if (bytes <= 512) {
      const uint64_t steps = bytes > 64 ? (bytes + 63) / 64 : 1;
      return {steps * 64, static_cast<int>(steps)};
    }
    const int shift = 60 - __builtin_clzll(bytes - 1);  // so that an eighth of the power of two below is 1 << shift
    const uint64_t steps = (bytes + (uint64_t{1} << shift) - 1) >> shift;
    return {steps << shift, (shift - 5) * 8 + static_cast<int>(steps)};
  }
  uint64_t next_ = 0;
  Block* free_[8 * 32] = {};
};

}  // namespace ufb
