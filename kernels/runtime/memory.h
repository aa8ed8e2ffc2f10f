// Aligned memory. Blocks of 4 MB and more start on a 2 MB boundary and ask Linux for huge pages, which spare TLB misses.
#pragma once
#include <cstddef>
#include <mutex>
#include <unordered_set>

namespace ufb {

// Null if there is no such memory. Aligned to at least 64 bytes.
void* allocateAligned(size_t bytes);
void freeAligned(void* block);

// The blocks that a backend owns, so that all of them can be given back with it. Thread-safe.
class Blocks {
 public:
  ~Blocks() { clear(); }
  void* allocate(size_t bytes);
  // Blocks that it does not hold are ignored.
  void release(void* block);
  void clear();
  size_t count();

 private:
  std::mutex mutex_;
  std::unordered_set<void*> blocks_;
};

}  // namespace ufb
