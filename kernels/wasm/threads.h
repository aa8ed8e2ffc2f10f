// The threads of the WASM builds that have some. Workers call `help`, which does not return.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace ufb {

constexpr int maxThreads = 64;

#ifdef UFB_THREADS
// As ../runtime/thread_pool.h: indices are claimed one by one on a ticket that names the task, so that a late helper cannot take an index
// of one task with the fields of another. Helpers look for work for a while, then sleep.
class Threads {
 public:
  void run(void (*task)(void*, size_t, int), void* data, size_t count) {
    const uint64_t generation = (__atomic_load_n(&ticket_, __ATOMIC_SEQ_CST) >> 32) + 1;
    __atomic_store_n(&ticket_, generation << 32 | closed, __ATOMIC_SEQ_CST);
    __atomic_store_n(&task_, task, __ATOMIC_SEQ_CST);
    __atomic_store_n(&data_, data, __ATOMIC_SEQ_CST);
    __atomic_store_n(&count_, static_cast<uint32_t>(count), __ATOMIC_SEQ_CST);
    __atomic_store_n(&done_, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&ticket_, generation << 32, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&bell_, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&sleeping_, __ATOMIC_SEQ_CST) > 0) __builtin_wasm_memory_atomic_notify(&bell_, ~0u);
    claimed_[0] = 0;
    work(0);
    for (int spins = 0;; spins++) {
      const int32_t done = __atomic_load_n(&done_, __ATOMIC_SEQ_CST);
      if (static_cast<size_t>(done) == count) return;
      if (spins > patience) __builtin_wasm_memory_atomic_wait32(&done_, done, -1);
    }
  }
  // Whether a helper has left its task unfinished since the last `abandon`.
  bool left() const { return __atomic_load_n(&left_, __ATOMIC_SEQ_CST); }
  // Ends a task that the first thread has left: what its data were lies on that thread's stack, so helpers must be out of it.
  void abandon() {
    const uint64_t generation = __atomic_load_n(&ticket_, __ATOMIC_SEQ_CST) >> 32;
    __atomic_store_n(&ticket_, generation << 32 | closed, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&helping_, __ATOMIC_SEQ_CST) > 0) {}
    __atomic_store_n(&left_, false, __ATOMIC_SEQ_CST);
  }
  // Counts what a helper had claimed when it left its task as done, so that the first thread comes back, and lets it know.
  void leave(int worker) {
    __atomic_store_n(&left_, true, __ATOMIC_SEQ_CST);
    finish(claimed_[worker]);
    __atomic_sub_fetch(&helping_, 1, __ATOMIC_SEQ_CST);
  }
  [[noreturn]] void help(int worker) {
    for (;;) {
      const int32_t bell = __atomic_load_n(&bell_, __ATOMIC_SEQ_CST);
      claimed_[worker] = 0;
      __atomic_add_fetch(&helping_, 1, __ATOMIC_SEQ_CST);
      work(worker);
      __atomic_sub_fetch(&helping_, 1, __ATOMIC_SEQ_CST);
      int spins = 0;
      while (__atomic_load_n(&bell_, __ATOMIC_SEQ_CST) == bell && spins < patience) spins++;
      if (spins < patience) continue;
      __atomic_add_fetch(&sleeping_, 1, __ATOMIC_SEQ_CST);
      __builtin_wasm_memory_atomic_wait32(&bell_, bell, -1);
      __atomic_sub_fetch(&sleeping_, 1, __ATOMIC_SEQ_CST);
    }
  }

 private:
  // Some tens of microseconds.
  static constexpr int patience = 20000;
  static constexpr uint64_t closed = 0xffffffffu;
  void work(int worker) {
    uint64_t ticket = __atomic_load_n(&ticket_, __ATOMIC_SEQ_CST);
    const uint64_t generation = ticket >> 32;
    const auto task = __atomic_load_n(&task_, __ATOMIC_SEQ_CST);
    void* data = __atomic_load_n(&data_, __ATOMIC_SEQ_CST);
    const uint32_t count = __atomic_load_n(&count_, __ATOMIC_SEQ_CST);
    int32_t& taken = claimed_[worker];
    while (ticket >> 32 == generation && (ticket & closed) < count) {
      if (!__atomic_compare_exchange_n(&ticket_, &ticket, ticket + 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) continue;
      taken++;
      task(data, ticket & closed, worker);
      ticket = __atomic_load_n(&ticket_, __ATOMIC_SEQ_CST);
    }
    finish(taken);
  }
  void finish(int32_t taken) {
    if (taken == 0) return;
    __atomic_add_fetch(&done_, taken, __ATOMIC_SEQ_CST);
    __builtin_wasm_memory_atomic_notify(&done_, 1);
  }
  uint64_t ticket_ = closed;
  void (*task_)(void*, size_t, int) = nullptr;
  void* data_ = nullptr;
  uint32_t count_ = 0;
  int32_t done_ = 0, bell_ = 0, sleeping_ = 0, helping_ = 0;
  bool left_ = false;
  int32_t claimed_[maxThreads] = {};  // by each in the task that it is in
};
#endif

}  // namespace ufb
