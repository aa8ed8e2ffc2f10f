#include "mpi.h"

#include <cstring>

#if !defined(_WIN32)
#include <dlfcn.h>
#endif

namespace ufb {

#if defined(_WIN32)

std::unique_ptr<Mpi> Mpi::open(const char*, std::string& problems) {
  problems = "MPI is opened on Linux and macOS only";
  return nullptr;
}

#else

namespace {

// Open MPI, of which the handles are addresses: those of the library's own objects, which it exports.
struct OpenMpi {
  using Handle = void*;
  // The library's status is smaller.
  struct Status { alignas(8) char bytes[64]; };
  static constexpr void* ignoredStatuses = nullptr;
  static bool isThis(void* library) { return dlsym(library, "ompi_mpi_comm_world") != nullptr; }
  static Handle world(void* library) { return dlsym(library, "ompi_mpi_comm_world"); }
  static Handle word(void* library) { return dlsym(library, "ompi_mpi_int"); }
  static Handle errorsReturn(void* library) { return dlsym(library, "ompi_mpi_errors_return"); }
};

// MPICH, and what shares its binary interface (Intel MPI, MVAPICH, Cray MPICH): handles are integers that mpi.h says.
struct Mpich {
  using Handle = int;
  struct Status { alignas(8) char bytes[64]; };
  static bool isThis(void* library) { return dlsym(library, "MPIR_Process") || dlsym(library, "MPIR_Err_create_code") || dlsym(library, "MPIX_Comm_failure_ack") || dlsym(library, "MPIR_Dup_fn"); }
  static Handle world(void*) { return 0x44000000; }
  static Handle word(void*) { return 0x4c000405; }
  static Handle errorsReturn(void*) { return 0x54000001; }
};

template <class Kind> class Library : public Mpi {
  using Handle = typename Kind::Handle;
  using Status = typename Kind::Status;

 public:
  Library(void* library, const char* path) : library_(library) {
    path_ = path;
    char text[8192] = "";  // MPI_MAX_LIBRARY_VERSION_STRING, the largest
    int length = 0;
    int (*getVersion)(char*, int*) = nullptr;
    find(getVersion, "MPI_Get_library_version");
    find(init_, "MPI_Init_thread");
    find(finalize_, "MPI_Finalize");
    find(abort_, "MPI_Abort");
    find(errorString_, "MPI_Error_string");
    find(rank_, "MPI_Comm_rank");
    find(size_, "MPI_Comm_size");
    find(duplicate_, "MPI_Comm_dup");
    find(setErrorHandler_, "MPI_Comm_set_errhandler");
    find(allToAll_, "MPI_Ialltoall");
    find(allToAllOfCounts_, "MPI_Ialltoallv");
    find(allGather_, "MPI_Iallgatherv");
    find(broadcast_, "MPI_Ibcast");
    find(send_, "MPI_Isend");
    find(receive_, "MPI_Irecv");
    find(test_, "MPI_Test");
    if (missing_) return;
    getVersion(text, &length);
    // 'Open MPI v4.1.4, package: ...' and 'MPICH Version:	4.0.2 ...'.
    version_.assign(text, std::strcspn(text, ",\n"));
    for (char& character : version_) if (character == '\t') character = ' ';
  }

  // A function that an MPI 3 has and this library has not; null if there is none.
  const char* missing() const { return missing_; }

  int initialize(int& rank, int& size) override {
    constexpr int funneled = 1;
    int granted = 0;
    if (const int code = init_(nullptr, nullptr, funneled, &granted)) return code;
    const Handle world = Kind::world(library_);
    setErrorHandler_(world, Kind::errorsReturn(library_));
    if (const int code = rank_(world, &rank)) return code;
    if (const int code = size_(world, &size)) return code;
    for (Handle& channel : channels_) {
      if (const int code = duplicate_(world, &channel)) return code;
      setErrorHandler_(channel, Kind::errorsReturn(library_));
    }
    return 0;
  }
  int finalize() override { return finalize_(); }
  void abort(int code) override { abort_(Kind::world(library_), code); }
  std::string textOf(int code) override {
    char text[2048] = "";
    int length = 0;
    errorString_(code, text, &length);
    return text;
  }

  int startAllToAll(Channel channel, const void* send, void* receive, int count, MpiRequest& request) override {
    return allToAll_(send, count, word(), receive, count, word(), channels_[channel], handleIn(request));
  }
  int startAllToAll(Channel channel, const void* send, const int* sendCounts, const int* sendPlaces, void* receive, const int* receiveCounts, const int* receivePlaces, MpiRequest& request) override {
    return allToAllOfCounts_(send, sendCounts, sendPlaces, word(), receive, receiveCounts, receivePlaces, word(), channels_[channel], handleIn(request));
  }
  int startAllGather(Channel channel, const void* send, int sendCount, void* receive, const int* receiveCounts, const int* receivePlaces, MpiRequest& request) override {
    return allGather_(send, sendCount, word(), receive, receiveCounts, receivePlaces, word(), channels_[channel], handleIn(request));
  }
  int startBroadcast(Channel channel, void* data, int count, int root, MpiRequest& request) override {
    return broadcast_(data, count, word(), root, channels_[channel], handleIn(request));
  }
  int startSend(Channel channel, const void* data, int count, int to, MpiRequest& request) override {
    return send_(data, count, word(), to, 0, channels_[channel], handleIn(request));
  }
  int startReceive(Channel channel, void* data, int count, int from, MpiRequest& request) override {
    return receive_(data, count, word(), from, 0, channels_[channel], handleIn(request));
  }
  int test(MpiRequest& request, bool& done) override {
    Status status;
    int flag = 0;
    const int code = test_(handleIn(request), &flag, &status);
    done = flag != 0;
    return code;
  }

 private:
  static Handle* handleIn(MpiRequest& request) {
    static_assert(sizeof(Handle) <= sizeof request.bits, "a request of MPI is an address or an integer");
    return reinterpret_cast<Handle*>(&request.bits);
  }
  Handle word() const { return Kind::word(library_); }
  template <class Function> void find(Function*& function, const char* name) {
    function = reinterpret_cast<Function*>(dlsym(library_, name));
    if (!function && !missing_) missing_ = name;
  }

  void* library_;
  const char* missing_ = nullptr;
  Handle channels_[channelCount] = {};
  int (*init_)(int*, char***, int, int*);
  int (*finalize_)();
  int (*abort_)(Handle, int);
  int (*errorString_)(int, char*, int*);
  int (*rank_)(Handle, int*);
  int (*size_)(Handle, int*);
  int (*duplicate_)(Handle, Handle*);
  int (*setErrorHandler_)(Handle, Handle);
  int (*allToAll_)(const void*, int, Handle, void*, int, Handle, Handle, Handle*);
  int (*allToAllOfCounts_)(const void*, const int*, const int*, Handle, void*, const int*, const int*, Handle, Handle, Handle*);
  int (*allGather_)(const void*, int, Handle, void*, const int*, const int*, Handle, Handle, Handle*);
  int (*broadcast_)(void*, int, Handle, int, Handle, Handle*);
  int (*send_)(const void*, int, Handle, int, int, Handle, Handle*);
  int (*receive_)(void*, int, Handle, int, int, Handle, Handle*);
  int (*test_)(Handle*, int*, Status*);
};

template <class Kind> std::unique_ptr<Mpi> opened(void* library, const char* path, std::string& problem) {
  std::unique_ptr<Library<Kind>> mpi(new Library<Kind>(library, path));
  if (!mpi->missing()) return mpi;
  problem = std::string(path) + ": has no " + mpi->missing();
  return nullptr;
}

}  // namespace

std::unique_ptr<Mpi> Mpi::open(const char* paths, std::string& problems) {
  for (const char* next = paths; *next;) {
    const std::string path(next, std::strcspn(next, "\n"));
    next += path.size();
    if (*next) next++;
    std::string problem;
    // Global: the parts that Open MPI loads when it starts look for the library's functions there.
    if (void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL)) {
      std::unique_ptr<Mpi> mpi;
      if (OpenMpi::isThis(library)) mpi = opened<OpenMpi>(library, path.c_str(), problem);
      else if (Mpich::isThis(library)) mpi = opened<Mpich>(library, path.c_str(), problem);
      else problem = path + ": is neither Open MPI nor MPICH";
      if (mpi) {
        problems.clear();
        return mpi;
      }
      dlclose(library);
    } else {
      const char* reason = dlerror();
      problem = reason ? reason : path + ": cannot be opened";
    }
    problems += (problems.empty() ? "" : "; ") + problem;
  }
  return nullptr;
}

#endif

}  // namespace ufb
