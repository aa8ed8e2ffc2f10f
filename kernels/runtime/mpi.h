// The few functions of MPI that data-parallel training needs, from the library that is installed, opened when the program runs: nothing
// of MPI is there when this is compiled (docs/decisions/47-mpi.md). Data are words of 4 bytes, which nobody converts or adds up but we.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace ufb {

// What an operation that was started is asked for by. As large as the largest of the libraries' own.
struct MpiRequest {
  uint64_t bits = 0;
};

// All functions are called on the thread that called `initialize`. Those that start an operation or finish it give an MPI error code, 0
// without one; `textOf` words it.
class Mpi {
 public:
  // Groups of the same ranks whose messages do not meet.
  enum Channel { work, control, pulse, channelCount };

  // The first of `paths` (separated by line breaks) that is an MPI we know. Null, with the reasons in `problems`, if none is.
  static std::unique_ptr<Mpi> open(const char* paths, std::string& problems);
  virtual ~Mpi() = default;

  // 'Open MPI v4.1.4', say.
  const std::string& version() const { return version_; }
  const std::string& path() const { return path_; }

  virtual int initialize(int& rank, int& size) = 0;
  virtual int finalize() = 0;
  // Ends the processes of all ranks.
  virtual void abort(int code) = 0;
  virtual std::string textOf(int code) = 0;

  // The counts are of words, one for each rank, and so are the places where a rank's words begin.
  virtual int startAllToAll(Channel channel, const void* send, void* receive, int count, MpiRequest& request) = 0;
  virtual int startAllToAll(Channel channel, const void* send, const int* sendCounts, const int* sendPlaces, void* receive, const int* receiveCounts, const int* receivePlaces, MpiRequest& request) = 0;
  virtual int startAllGather(Channel channel, const void* send, int sendCount, void* receive, const int* receiveCounts, const int* receivePlaces, MpiRequest& request) = 0;
  virtual int startBroadcast(Channel channel, void* data, int count, int root, MpiRequest& request) = 0;
  virtual int startSend(Channel channel, const void* data, int count, int to, MpiRequest& request) = 0;
  virtual int startReceive(Channel channel, void* data, int count, int from, MpiRequest& request) = 0;
  // Also lets the library work on all that was started.
  virtual int test(MpiRequest& request, bool& done) = 0;

 protected:
  std::string version_, path_;
};

}  // namespace ufb
