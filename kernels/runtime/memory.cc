#include "memory.h"

#include "allocation_failures.h"

#include <stdlib.h>
#if defined(__linux__)
#include <sys/mman.h>
#elif defined(_WIN32)
#include <malloc.h>
#endif

namespace ufb {

namespace {
constexpr size_t hugePage = size_t{2} << 20, large = size_t{4} << 20;
}

void* allocateAligned(size_t bytes) {
  void* block = nullptr;
  if (!mayAllocate()) return nullptr;
  const bool huge = bytes >= large;
  const size_t alignment = huge ? hugePage : 64;
  if (bytes == 0) bytes = 1;
#if defined(_WIN32)
  if (bytes <= SIZE_MAX / 2) block = _aligned_malloc(bytes, alignment);
#else
  if (bytes > SIZE_MAX / 2 || posix_memalign(&block, alignment, bytes) != 0) return nullptr;
#endif
#if defined(__linux__)
  if (huge) madvise(block, bytes, MADV_HUGEPAGE);
#endif
  return block;
}

void freeAligned(void* block) {
#if defined(_WIN32)
  _aligned_free(block);
#else
  free(block);
#endif
}

void* Blocks::allocate(size_t bytes) {
  void* block = allocateAligned(bytes);
  if (!block) return nullptr;
  try {
    std::lock_guard<std::mutex> lock(mutex_);
    blocks_.insert(block);
    return block;
  } catch (...) {
    freeAligned(block);
    return nullptr;
  }
}

void Blocks::release(void* block) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (blocks_.erase(block) == 0) return;
  }
  freeAligned(block);
}

size_t Blocks::count() {
  std::lock_guard<std::mutex> lock(mutex_);
  return blocks_.size();
}

void Blocks::clear() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (void* block : blocks_) freeAligned(block);
  blocks_.clear();
}

}  // namespace ufb
