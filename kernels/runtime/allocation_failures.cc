#include "allocation_failures.h"

#if defined(UFB_ALLOCATION_FAILURES)
#include <stdlib.h>

#include <mutex>
#include <new>

namespace ufb {

namespace {
std::mutex mutex;
size_t count = 0, first = 0, last = 0;
}  // namespace

size_t failAllocations(size_t skip, size_t fail) noexcept {
  std::lock_guard<std::mutex> lock(mutex);
  const size_t were = count;
  count = 0;
  first = skip;
  last = fail > SIZE_MAX - skip ? SIZE_MAX : skip + fail;
  return were;
}

bool mayAllocate() noexcept {
  std::lock_guard<std::mutex> lock(mutex);
  const size_t number = count++;
  return number < first || number >= last;
}

}  // namespace ufb

// The add-on's own; others in the process keep theirs.
void* operator new(size_t bytes) {
  if (ufb::mayAllocate())
    if (void* block = malloc(bytes > 0 ? bytes : 1)) return block;
  throw std::bad_alloc();
}
void operator delete(void* block) noexcept { free(block); }
void operator delete(void* block, size_t) noexcept { free(block); }
#endif
