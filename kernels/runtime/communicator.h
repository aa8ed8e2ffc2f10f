// This process's part in a group that a launcher of MPI started: a thread of its own on which alone MPI is called, so that neither the
// event loop nor what computes waits for other ranks. It also notices a rank that is no more.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "exchange.h"
#include "executor.h"

namespace ufb {

class Communicator {
 public:
  struct Totals {
    // Of work: how long there was any to do, and how long the executor waited for it.
    uint64_t exchanges = 0, sentBytes = 0, activeNanoseconds = 0, waitedNanoseconds = 0;
  };
  struct Joined {
    int rank = 0, size = 1;
    std::string version, path, error;
  };
  // Called on the communicator's thread.
  struct Listener {
    virtual ~Listener() = default;
    virtual void joined(const Joined& joined) = 0;
    // Of the control channel; with a text if it failed.
    virtual void finished(std::unique_ptr<Exchange> exchange, const std::string& error) = 0;
    virtual void left(const std::string& error) = 0;
  };

  // Opens one of the libraries (see Mpi::open) and joins the group, once a process: MPI cannot be started again. It is never deleted, and
  // the listener neither, for MPI may wait in it when the process ends. Throws if there is no thread or memory.
  static Communicator& start(std::string paths, Listener& listener);
  // Null before.
  static Communicator* current() { return current_; }

  // Exchanges of a channel run one after another, in the same order on all ranks.
  void submitControl(std::unique_ptr<Exchange> exchange);
  void submitWork(std::unique_ptr<Exchange> exchange);
  Buffers& buffers() { return buffers_; }
  // Of work, nothing is read or written any more: its memory may go. What is waited for fails.
  void abandonWork() noexcept;
  // Until all that was submitted as work is done, or `stopping`. False, with the reason, if an exchange failed.
  bool waitForWork(const std::atomic<bool>& stopping, Message& error) noexcept;

  // From now on this rank hears from the one before it (`watched` says which that is) and is heard by the one behind it; who is not heard
  // of for `silence` seconds is taken for dead, which ends all.
  void watch(std::string watched, double silence);
  // When all ranks call this, MPI ends.
  void leave();
  // Ends the processes of all ranks, this one too. May return before.
  void abort(int code);
  // Whether MPI has ended, or does within some seconds.
  bool ends(double seconds);
  Totals totals();

 private:
  enum { workQueue, controlQueue, queueCount };
  using Clock = std::chrono::steady_clock;
  struct Queue {
    std::vector<std::unique_ptr<Exchange>> waiting;
    std::unique_ptr<Exchange> active;
    Clock::time_point begun;
  };
  Communicator(std::string paths, Listener& listener) : paths_(std::move(paths)), listener_(listener) {}
  void submit(int queue, std::unique_ptr<Exchange> exchange);
  void serve() noexcept;
  bool join();
  void goOn();
  bool advance(int queue);
  void finish(int queue, const std::string& error);
  // True when the neighbors have said goodbye.
  bool pulse();
  void check(const char* what, int code);
  void rest(unsigned idle);

  static std::atomic<Communicator*> current_;
  const std::string paths_;
  Listener& listener_;
  std::unique_ptr<Mpi> mpi_;
  World world_{};
  Buffers buffers_;

  // Taken before the other, and held while work goes on.
  std::mutex workMutex_;
  std::mutex mutex_;
  std::condition_variable changed_, done_;
  Queue queues_[queueCount];
  size_t outstanding_ = 0;
  std::string failure_;
  Totals totals_;
  std::atomic<bool> workIsAwaited_{false};
  std::atomic<bool> leaving_{false};
  int abortCode_ = -1;
  bool ended_ = false;

  // Of the pulse; `silence_` 0: not yet.
  std::string watched_;
  double silence_ = 0;
  int32_t heard_ = 0, said_ = 0;
  bool isListening_ = false, isSaying_ = false, hasSaidGoodbye_ = false, hasHeardGoodbye_ = false;
  MpiRequest listening_, saying_;
  Clock::time_point lastHeard_, lastSaid_, lastLooked_;
};

}  // namespace ufb
