#include "executor.h"

#include <chrono>
#include <cstdio>
#include <cstring>

#include "communicator.h"

namespace ufb {

namespace {
constexpr size_t stagedLimit = size_t{64} << 20;
// Thrown by `scratch` through a kernel, which owns nothing and can be left anywhere; caught where the kernel was called.
struct NoScratch {
  size_t bytes;
};
// Parallel work that may be left: what one task throws on its thread is thrown again on the kernel's when all have ended.
struct Shared {
  void (*task)(void*, size_t, int);
  void* data;
  std::atomic<size_t> missing{0};
};
template <class T> T* pointer(double address) { return reinterpret_cast<T*>(static_cast<uintptr_t>(address)); }
}  // namespace

Executor::Executor(const KernelEntry* kernels, int threads, void (*completed)(void*, std::unique_ptr<Job>), void* data)
    : kernels_(kernels), completed_(completed), data_(data), pool_(threads) {
  while (kernels[kernelCount_].name) kernelCount_++;
  times_.resize(kernelCount_);
  scratch_.resize(static_cast<size_t>(threads) + 1);
  context_.executor = this;
  context_.run = [](Context* context, void (*task)(void*, size_t, int), void* taskData, size_t count) {
    Shared shared{task, taskData};
    const auto guarded = [](void* data, size_t index, int worker) {
      Shared& own = *static_cast<Shared*>(data);
      if (own.missing.load(std::memory_order_relaxed) > 0) return;
      try {
        own.task(own.data, index, worker);
      } catch (const NoScratch& missing) {
        own.missing = missing.bytes;
      }
    };
    static_cast<KernelContext*>(context)->executor->pool_.run(guarded, &shared, count);
    if (shared.missing > 0) throw NoScratch{shared.missing};
  };
  context_.scratch = [](Context* context, int worker, uint64_t bytes) { return static_cast<KernelContext*>(context)->executor->scratch(worker, bytes); };
  context_.fail = [](Context* context, const char* format, long long a, long long b, long long c) {
    static_cast<KernelContext*>(context)->executor->fail(format, a, b, c);
  };
  // Before the helpers, who take what threads there are, and last of what may throw: a thread that has started must be joined.
  thread_ = std::thread([this] { serve(); });
  pool_.start();
  context_.threads = pool_.threads();
}

Executor::~Executor() {
  stop();
  for (Scratch& own : scratch_) freeAligned(own.block);
}

JobList Executor::stop() noexcept {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  abandonExchanges();
  return std::move(queue_);
}

void* Executor::stage(const void* values, size_t bytes) {
  if (stagedBytes_ + bytes > stagedLimit) {
    std::unique_lock<std::mutex> lock(mutex_);
    waitUntilIdle(lock);
  }
  void* block = staged_.allocate(bytes);
  if (!block) return nullptr;
  stagedBytes_ += bytes;
  std::memcpy(block, values, bytes);
  return block;
}

void Executor::submit(std::unique_ptr<Job> job) noexcept {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.push(std::move(job));
  }
  changed_.notify_all();
}

void Executor::waitUntilIdle(std::unique_lock<std::mutex>& lock) {
  changed_.wait(lock, [this] { return queue_.empty() && !running_; });
}

std::vector<KernelTime> Executor::times() {
  std::lock_guard<std::mutex> lock(mutex_);
  return times_;
}

void Executor::serve() noexcept {
  FlushDenormals flush;
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (stopping_) return;
    std::unique_ptr<Job> job = queue_.pop();
    running_ = true;
    lock.unlock();
    execute(*job);
    if (job->barrier) completed_(data_, std::move(job));
    lock.lock();
    running_ = false;
    if (queue_.empty()) changed_.notify_all();
  }
}

void Executor::execute(Job& job) noexcept {
  for (CommandReader command(job.commands.data(), job.commands.size()); command.next() && !stopping_;) {
    void* const first = pointer<void>(command.address(0));
    switch (command.code()) {
      case releaseBlock:
        blocks_.release(first);
        break;
      case writeInline:
        std::memcpy(first, command.inlined(), command.bytes());
        break;
      case writeStaged: {
        void* staged = pointer<void>(command.address(1));
        std::memcpy(first, staged, command.bytes());
        staged_.release(staged);
        stagedBytes_ -= command.bytes();
        break;
      }
      case startSum:
      case startGather:
        if (!failed_) startExchange(command);
        break;
      case awaitExchanges:
        if (!failed_) awaitExchangesOfRanks();
        break;
      default: {
        if (failed_) break;
        void* operands[maxOperands] = {};
        for (size_t i = 0; i < command.operandCount(); i++) operands[i] = pointer<void>(command.address(i));
        runKernel(static_cast<size_t>(command.code()), {operands, command.numbers()});
      }
    }
  }
  if (stopping_) return;
  if (!job.barrier) return;
  // Whoever hears of the error may free what an exchange would write to.
  if (failed_) abandonExchanges();
  std::lock_guard<std::mutex> lock(errorMutex_);
  if (failed_) job.error = error_;
  else if (job.read.bytes > 0) std::memcpy(job.read.to, job.read.from, job.read.bytes);
  error_ = Message();
  failed_ = false;
}

void Executor::startExchange(const CommandReader& command) noexcept {
  Communicator* const communicator = Communicator::current();
  try {
    std::vector<Part> parts;
    size_t operand = 0;
    const double *next = command.numbers(), *end = next + command.numberCount();
    const bool bf16 = *next++ != 0;
    for (; next < end; next += 3) {
      Part part{static_cast<Part::Kind>(static_cast<int>(next[0])), pointer<void>(command.address(operand++)), nullptr, static_cast<size_t>(next[1]), static_cast<size_t>(next[2])};
      if (part.kind == Part::table && command.code() == startSum) part.flags = pointer<int32_t>(command.address(operand++));
      parts.push_back(part);
    }
    std::unique_ptr<Exchange> exchange;
    if (command.code() == startSum) exchange.reset(new SumExchange(std::move(parts), bf16, communicator->buffers()));
    else exchange.reset(new GatherExchange(std::move(parts), communicator->buffers()));
    communicator->submitWork(std::move(exchange));
  } catch (const std::bad_alloc&) {
    fail("no memory for an exchange between ranks", 0, 0, 0);
  }
}

void Executor::awaitExchangesOfRanks() noexcept {
  Message error;
  if (Communicator::current()->waitForWork(stopping_, error)) return;
  std::lock_guard<std::mutex> lock(errorMutex_);
  if (failed_) return;
  error_ = error;
  failed_ = true;
}

void Executor::abandonExchanges() noexcept {
  if (Communicator* const communicator = Communicator::current()) communicator->abandonWork();
}

void Executor::runKernel(size_t code, const Arguments& arguments) {
  const auto start = std::chrono::steady_clock::now();
  try {
    kernels_[code].kernel(context_, arguments);
  } catch (const NoScratch& missing) {
    fail("no memory for %lld bytes of scratch", static_cast<long long>(missing.bytes), 0, 0);
  }
  const auto took = std::chrono::steady_clock::now() - start;
  std::lock_guard<std::mutex> lock(mutex_);
  times_[code].calls++;
  times_[code].nanoseconds += static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(took).count());
}

void* Executor::scratch(int worker, size_t bytes) {
  Scratch& own = scratch_[static_cast<size_t>(worker)];
  if (own.bytes >= bytes && own.block) return own.block;
  freeAligned(own.block);
  own.block = allocateAligned(bytes);
  own.bytes = bytes;
  if (!own.block) throw NoScratch{bytes};
  return own.block;
}

void Executor::fail(const char* format, long long a, long long b, long long c) noexcept {
  std::lock_guard<std::mutex> lock(errorMutex_);
  if (failed_) return;
  std::snprintf(error_.text, sizeof error_.text, format, a, b, c);
  failed_ = true;
}

}  // namespace ufb
