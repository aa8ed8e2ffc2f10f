#include "thread_pool.h"

#include <chrono>
#include <exception>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ufb {

namespace {

using Clock = std::chrono::steady_clock;
// Longer than the gaps between the operations of a training step, shorter than anything that a person or another process would notice.
constexpr auto patience = std::chrono::microseconds(40);

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Looks at condition() for a while; true as soon as it holds.
template <class Condition>
bool spin(Condition&& condition) {
  const auto until = Clock::now() + patience;
  do {
    for (int i = 0; i < 64; i++) {
      if (condition()) return true;
      pause();
    }
  } while (Clock::now() < until);
  return false;
}

constexpr uint64_t indexOf(uint64_t ticket) { return ticket & 0xffffffffu; }
constexpr uint64_t generationOf(uint64_t ticket) { return ticket >> 32; }

}  // namespace

ThreadPool::ThreadPool(int threads) : wanted_(threads) { helpers_.reserve(static_cast<size_t>(threads > 1 ? threads - 1 : 0)); }

void ThreadPool::start() {
  try {
    while (threads() < wanted_) helpers_.emplace_back([this, worker = threads()] { help(worker); });
  } catch (const std::exception&) {  // as many as there are
  }
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
}

void ThreadPool::run(Task task, void* data, size_t count) {
  if (helpers_.empty() || count <= 1 || count >= closed) {
    for (size_t index = 0; index < count; index++) task(data, index, 0);
    return;
  }
  const uint64_t generation = generationOf(ticket_.load()) + 1;
  ticket_ = generation << 32 | closed;
  task_ = task;
  data_ = data;
  count_ = count;
  done_ = 0;
  ticket_ = generation << 32;
  if (sleeping_ > 0) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (count > helpers_.size()) wake_.notify_all();
    else for (size_t i = 1; i < count; i++) wake_.notify_one();
  }
  work(ticket_, 0);
  const auto complete = [this, count] { return done_ == count; };
  if (spin(complete)) return;
  std::unique_lock<std::mutex> lock(mutex_);
  callerSleeps_ = true;
  finished_.wait(lock, complete);
  callerSleeps_ = false;
}

void ThreadPool::work(uint64_t ticket, int worker) {
  // The fields belong to the ticket's task: they change only after its number has, and then no claim below succeeds.
  const uint64_t generation = generationOf(ticket);
  const Task task = task_;
  void* data = data_;
  const size_t count = count_;
  size_t taken = 0;
  while (generationOf(ticket) == generation && indexOf(ticket) < count) {
    if (!ticket_.compare_exchange_weak(ticket, ticket + 1)) continue;
    task(data, indexOf(ticket), worker);
    taken++;
    ticket = ticket_;
  }
  if (taken > 0) finish(taken);
}

void ThreadPool::finish(size_t indices) {
  if (done_.fetch_add(indices) + indices != count_ || !callerSleeps_) return;
  std::lock_guard<std::mutex> lock(mutex_);
  finished_.notify_one();
}

void ThreadPool::help(int worker) {
  FlushDenormals flush;
  uint64_t seen = 0;
  const auto news = [this, &seen] {
    const uint64_t ticket = ticket_;
    return stopping_ || (generationOf(ticket) != seen && indexOf(ticket) != closed);
  };
  for (;;) {
    if (!spin(news)) {
      std::unique_lock<std::mutex> lock(mutex_);
      sleeping_++;
      wake_.wait(lock, news);
      sleeping_--;
    }
    if (stopping_) return;
    const uint64_t ticket = ticket_;
    if (indexOf(ticket) == closed) continue;
    seen = generationOf(ticket);
    work(ticket, worker);
  }
}

#if defined(__x86_64__)
FlushDenormals::FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(static_cast<unsigned>(saved_) | 0x8040); }
FlushDenormals::~FlushDenormals() { _mm_setcsr(static_cast<unsigned>(saved_)); }
#elif defined(__aarch64__)
FlushDenormals::FlushDenormals() {
  asm volatile("mrs %0, fpcr" : "=r"(saved_));
  asm volatile("msr fpcr, %0" : : "r"(saved_ | uint64_t{1} << 24));
}
FlushDenormals::~FlushDenormals() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }
#else
FlushDenormals::FlushDenormals() : saved_(0) {}
FlushDenormals::~FlushDenormals() {}
#endif

}  // namespace ufb
