#include "communicator.h"

#include <chrono>
#include <cstdio>

#if defined(__linux__)
#include <sys/prctl.h>
#endif

#include "thread_pool.h"

namespace ufb {

namespace {
constexpr std::chrono::milliseconds idleWait{50};
constexpr std::chrono::seconds betweenPulses{1};
// Who was not running for so long has been stopped itself (Ctrl-Z, a suspended machine): the silence was its own.
constexpr std::chrono::seconds ownPause{5};
enum : int32_t { alive = 1, goodbye = 2 };
}  // namespace

std::atomic<Communicator*> Communicator::current_{nullptr};

Communicator& Communicator::start(std::string paths, Listener& listener) {
  std::unique_ptr<Communicator> own(new Communicator(std::move(paths), listener));
  std::thread([&own = *own] { own.serve(); }).detach();
  current_ = own.get();
  return *own.release();
}

void Communicator::submitControl(std::unique_ptr<Exchange> exchange) { submit(controlQueue, std::move(exchange)); }
void Communicator::submitWork(std::unique_ptr<Exchange> exchange) { submit(workQueue, std::move(exchange)); }

void Communicator::submit(int queue, std::unique_ptr<Exchange> exchange) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (queue == workQueue) outstanding_++;
  if (ended_ && queue == controlQueue) {
    lock.unlock();
    listener_.finished(std::move(exchange), failure_);
    return;
  }
  queues_[queue].waiting.push_back(std::move(exchange));
  changed_.notify_all();
}

void Communicator::abandonWork() noexcept {
  std::lock_guard<std::mutex> work(workMutex_);
  std::lock_guard<std::mutex> lock(mutex_);
  if (outstanding_ == 0) return;
  Queue& queue = queues_[workQueue];
  // What MPI still writes to are the communicator's own buffers and the exchange's lists, which are left to it.
  queue.active.release();
  queue.waiting.clear();
  outstanding_ = 0;
  if (failure_.empty()) failure_ = "an exchange between ranks was given up";
}

bool Communicator::waitForWork(const std::atomic<bool>& stopping, Message& error) noexcept {
  const auto start = Clock::now();
  std::unique_lock<std::mutex> lock(mutex_);
  workIsAwaited_ = true;
  while (outstanding_ > 0 && failure_.empty() && !stopping) done_.wait_for(lock, idleWait);
  workIsAwaited_ = false;
  totals_.waitedNanoseconds += static_cast<uint64_t>(std::chrono::nanoseconds(Clock::now() - start).count());
  if (failure_.empty()) return true;
  std::snprintf(error.text, sizeof error.text, "%s", failure_.c_str());
  return false;
}

void Communicator::watch(std::string watched, double silence) {
  std::lock_guard<std::mutex> lock(mutex_);
  watched_ = std::move(watched);
  silence_ = silence;
  changed_.notify_all();
}

void Communicator::leave() {
  std::lock_guard<std::mutex> lock(mutex_);
  leaving_ = true;
  changed_.notify_all();
}

void Communicator::abort(int code) {
  std::lock_guard<std::mutex> lock(mutex_);
  abortCode_ = code;
  changed_.notify_all();
}

bool Communicator::ends(double seconds) {
  std::unique_lock<std::mutex> lock(mutex_);
  return done_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return ended_; });
}

Communicator::Totals Communicator::totals() {
  std::lock_guard<std::mutex> lock(mutex_);
  return totals_;
}

void Communicator::check(const char* what, int code) {
  if (code != 0) throw MpiFailure{std::string(what) + " of rank " + std::to_string(world_.rank) + ": " + mpi_->textOf(code)};
}

bool Communicator::join() {
  Joined joined;
  mpi_ = Mpi::open(paths_.c_str(), joined.error);
  if (mpi_) {
    joined.version = mpi_->version();
    joined.path = mpi_->path();
    if (const int code = mpi_->initialize(joined.rank, joined.size)) joined.error = "MPI_Init: " + mpi_->textOf(code);
  }
  world_ = {mpi_.get(), joined.rank, joined.size};
  listener_.joined(joined);
  return joined.error.empty();
}

void Communicator::serve() noexcept {
  FlushDenormals flush;  // sums are to be those of the threads that compute
#if defined(__linux__)
  prctl(PR_SET_TIMERSLACK, 1000);  // rests of some microseconds are not to be made fifty longer
#endif
  std::string problem;
  bool hasJoined = false;
  try {
    hasJoined = join();
    if (hasJoined) goOn();
  } catch (const MpiFailure& failure) {
    problem = failure.text;
  } catch (const std::exception& error) {
    problem = std::string("no memory for an exchange between ranks (") + error.what() + ")";
  }
  Queue control;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ended_ = true;
    if (failure_.empty()) failure_ = problem.empty() ? "the group of ranks has ended" : problem;
    done_.notify_all();
    std::swap(control, queues_[controlQueue]);
  }
  if (!hasJoined) return;
  if (control.active) listener_.finished(std::move(control.active), failure_);
  for (std::unique_ptr<Exchange>& exchange : control.waiting) listener_.finished(std::move(exchange), failure_);
  listener_.left(problem);
}

void Communicator::goOn() {
  unsigned idle = 0;
  lastLooked_ = Clock::now();
  for (bool ended = false; !ended;) {
    bool isActive = false;
    int abortCode;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      for (Queue& queue : queues_) {
        if (!queue.active && !queue.waiting.empty()) {
          queue.active = std::move(queue.waiting.front());
          queue.waiting.erase(queue.waiting.begin());
          queue.begun = Clock::now();
          idle = 0;
        }
        isActive = isActive || queue.active;
      }
      if (!isActive && !leaving_ && abortCode_ < 0) changed_.wait_for(lock, idleWait);
      abortCode = abortCode_;
    }
    if (abortCode >= 0) {
      mpi_->abort(abortCode);
      return;
    }
    bool moved = false;
    for (int queue = 0; queue < queueCount; queue++) moved = advance(queue) || moved;
    const bool isOver = pulse();
    if (moved) idle = 0;
    else if (isActive || leaving_) rest(++idle);
    ended = leaving_ && !isActive && isOver;
  }
  check("MPI_Finalize", mpi_->finalize());
}

bool Communicator::advance(int number) {
  std::unique_lock<std::mutex> work(workMutex_, std::defer_lock);
  if (number == workQueue) work.lock();
  Queue& queue = queues_[number];
  if (!queue.active) return false;
  bool moved = false, done = true;
  std::string error;
  try {
    done = queue.active->advance(world_, moved);
  } catch (const MpiFailure& failure) {
    error = failure.text;
  } catch (const std::exception& exception) {
    error = std::string("no memory for an exchange between ranks (") + exception.what() + ")";
  }
  if (done || !error.empty()) finish(number, error);
  return moved;
}

void Communicator::finish(int number, const std::string& error) {
  Queue& queue = queues_[number];
  std::unique_ptr<Exchange> exchange;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    exchange = std::move(queue.active);
    totals_.exchanges++;
    totals_.sentBytes += 4 * exchange->sentWords;
    if (number == workQueue) {
      totals_.activeNanoseconds += static_cast<uint64_t>(std::chrono::nanoseconds(Clock::now() - queue.begun).count());
      outstanding_--;
      if (!error.empty() && failure_.empty()) failure_ = error;
      done_.notify_all();
    }
  }
  if (number == controlQueue) listener_.finished(std::move(exchange), error);
}

// Each rank says that it lives to the one behind it, and at the end that it will say no more.
bool Communicator::pulse() {
  double silence;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    silence = silence_;
  }
  if (silence == 0 || world_.size == 1) return true;
  const auto now = Clock::now();
  if (now - lastLooked_ > ownPause || lastHeard_ == Clock::time_point()) lastHeard_ = now;
  lastLooked_ = now;
  if (isListening_) {
    bool done = false;
    check("MPI_Test", mpi_->test(listening_, done));
    if (done) {
      isListening_ = false;
      lastHeard_ = now;
      hasHeardGoodbye_ = heard_ == goodbye;
    }
  }
  if (!isListening_ && !hasHeardGoodbye_) {
    check("MPI_Irecv", mpi_->startReceive(Mpi::pulse, &heard_, 1, (world_.rank + world_.size - 1) % world_.size, listening_));
    isListening_ = true;
  }
  if (isSaying_) {
    bool done = false;
    check("MPI_Test", mpi_->test(saying_, done));
    if (done) isSaying_ = false;
  }
  if (!isSaying_ && !hasSaidGoodbye_ && (leaving_ || now - lastSaid_ > betweenPulses)) {
    said_ = leaving_ ? goodbye : alive;
    check("MPI_Isend", mpi_->startSend(Mpi::pulse, &said_, 1, (world_.rank + 1) % world_.size, saying_));
    hasSaidGoodbye_ = leaving_;
    isSaying_ = true;
    lastSaid_ = now;
  }
  const double seconds = std::chrono::duration<double>(now - lastHeard_).count();
  if (!hasHeardGoodbye_ && seconds > silence) {
    std::fprintf(stderr, "ufb: %s has said nothing for %.0f seconds: it is taken for dead, and all ranks end; go on with --resume\n", watched_.c_str(), seconds);
    std::fflush(stderr);
    mpi_->abort(1);
  }
  return hasSaidGoodbye_ && hasHeardGoodbye_ && !isSaying_;
}

// Longer and longer, so that who computes on this processor is not disturbed; shorter where it waits for this.
void Communicator::rest(unsigned idle) {
  if (idle < 50) {
    std::this_thread::yield();
    return;
  }
  const unsigned longest = workIsAwaited_ ? 20 : 200, microseconds = idle < 60 ? 5 : idle / 10;
  std::this_thread::sleep_for(std::chrono::microseconds(microseconds < longest ? microseconds : longest));
}

}  // namespace ufb
