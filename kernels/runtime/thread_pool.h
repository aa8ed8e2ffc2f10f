// Shares the indices of one task among the calling thread and some helpers.
//
// Indices are taken one by one from a shared counter, by whoever is free: a helper that the system has put aside delays nobody but
// for the index it holds. Helpers look for work for some tens of microseconds after the last task, then sleep until woken.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace ufb {

class ThreadPool {
 public:
  using Task = void (*)(void* data, size_t index, int worker);

  // Throws std::bad_alloc if there is no memory for so many.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  // Starts threads - 1 helpers; fewer if the system refuses. Throws nothing. Once, before `run`.
  void start();
  // The calling thread included.
  int threads() const { return static_cast<int>(helpers_.size()) + 1; }
  // Calls task(data, index, worker) for each index in [0, count), worker in [0, threads); returns when all are done. One caller at a time.
  void run(Task task, void* data, size_t count);

 private:
  void help(int worker);
  // Takes indices of the task of `generation` until there are none.
  void work(uint64_t ticket, int worker);
  void finish(size_t indices);

  // Number of the task in the upper half, next index in the lower. A claim succeeds only on the number that was read with the task's
  // fields, so a late helper cannot take an index of one task with the fields of another.
  std::atomic<uint64_t> ticket_{closed};
  std::atomic<Task> task_{nullptr};
  std::atomic<void*> data_{nullptr};
  std::atomic<size_t> count_{0};
  std::atomic<size_t> done_{0};
  static constexpr uint64_t closed = 0xffffffffu;

  std::mutex mutex_;
  std::condition_variable wake_, finished_;
  std::atomic<int> sleeping_{0};
  std::atomic<bool> callerSleeps_{false}, stopping_{false};
  const int wanted_;
  std::vector<std::thread> helpers_;
};

// Denormal numbers become zero on this thread while it lives: they carry nothing here (moments of rows that are never visited decay
// through them) and cost up to a hundred times as much on some processors. Every thread that runs kernels does so, so results agree.
class FlushDenormals {
 public:
  FlushDenormals();
  ~FlushDenormals();

 private:
  uint64_t saved_;
};

}  // namespace ufb
