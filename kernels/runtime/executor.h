// Runs lists of commands (../command_list.h), in order, on a thread of its own. Codes from 0 on are the kernels of the instruction set in
// their order; a staged block is freed when it was written.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "../command_list.h"
#include "../kernel.h"
#include "memory.h"
#include "thread_pool.h"

namespace ufb {

// Where a list's result is copied to when it has run.
struct ReadBack {
  void* to = nullptr;
  const void* from = nullptr;
  size_t bytes = 0;
};

// A message of fixed room: errors are noted where nothing may be allocated, for want of memory may be the error.
struct Message {
  char text[256] = "";
  bool empty() const { return text[0] == 0; }
};

struct Job {
  std::vector<double> commands;
  // A barrier reports the first error since the one before it.
  bool barrier = false;
  ReadBack read;
  Message error;
  // The submitter's own, handed back by `completed`.
  void* owner = nullptr;

 private:
  friend class JobList;
  Job* next = nullptr;
};

// Jobs in their order, linked to each other: nothing that is done with them allocates or throws.
class JobList {
 public:
  JobList() = default;
  JobList(JobList&& other) noexcept : first_(other.first_), last_(other.last_) { other.first_ = other.last_ = nullptr; }
  JobList(const JobList&) = delete;
  JobList& operator=(const JobList&) = delete;
  ~JobList() {
    while (pop()) {
    }
  }
  bool empty() const noexcept { return !first_; }
  void push(std::unique_ptr<Job> job) noexcept {
    (last_ ? last_->next : first_) = job.get();
    last_ = job.release();
  }
  // Null if there is none.
  std::unique_ptr<Job> pop() noexcept {
    std::unique_ptr<Job> job(first_);
    if (!job) return job;
    first_ = job->next;
    if (!first_) last_ = nullptr;
    job->next = nullptr;
    return job;
  }

 private:
  Job *first_ = nullptr, *last_ = nullptr;
};

struct KernelTime {
  uint64_t calls = 0, nanoseconds = 0;
};

class Executor {
 public:
  // `completed` is called on the executor's thread for each barrier that has run. Throws if there is no memory, or no thread to be had.
  Executor(const KernelEntry* kernels, int threads, void (*completed)(void* data, std::unique_ptr<Job>), void* data);
  ~Executor();
  // Finishes the command that runs, ends the thread, and returns the jobs that have not begun.
  JobList stop() noexcept;

  int threads() const { return pool_.threads(); }
  Blocks& blocks() { return blocks_; }
  // A copy of the values, waiting for a writeStaged command; null without memory. Waits when too much is staged already.
  void* stage(const void* values, size_t bytes);
  void submit(std::unique_ptr<Job> job) noexcept;
  // Records an error (the first one wins), which the next barrier reports. printf-style.
  void fail(const char* format, long long a, long long b, long long c) noexcept;
  // Calls and time of each kernel, in their order.
  std::vector<KernelTime> times();

 private:
  struct KernelContext : Context {
    Executor* executor;
  };
  void serve() noexcept;
  void waitUntilIdle(std::unique_lock<std::mutex>& lock);
  void execute(Job& job) noexcept;
  // In a group of ranks (communicator.h).
  void startExchange(const CommandReader& command) noexcept;
  void awaitExchangesOfRanks() noexcept;
  static void abandonExchanges() noexcept;
  void runKernel(size_t code, const Arguments& arguments);
  void* scratch(int worker, size_t bytes);

  const KernelEntry* kernels_;
  size_t kernelCount_ = 0;
  void (*completed_)(void*, std::unique_ptr<Job>);
  void* data_;
  ThreadPool pool_;
  KernelContext context_;
  Blocks blocks_, staged_;

  struct Scratch {
    void* block = nullptr;
    size_t bytes = 0;
  };
  std::vector<Scratch> scratch_;

  std::mutex mutex_;
  std::condition_variable changed_;
  JobList queue_;
  bool running_ = false;
  std::atomic<bool> stopping_{false};
  std::atomic<size_t> stagedBytes_{0};
  std::vector<KernelTime> times_;

  std::mutex errorMutex_;
  std::atomic<bool> failed_{false};
  Message error_;

  std::thread thread_;
};

}  // namespace ufb
