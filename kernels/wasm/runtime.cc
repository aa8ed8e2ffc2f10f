// The runtime of the WASM builds, without any library: memory, the list of commands (../runtime/executor.h says how one is written) and
// the threads that share a kernel's work. src/backend/wasm_worker.js calls `start` once and `run` for each list; in the threaded
// builds further workers call `help`, which does not return.
// There are no exceptions here: a kernel that finds no scratch traps, which leaves it; where that was a helper, who then calls `helpAgain`,
// the worker's own part of the kernel traps next. The worker then calls `resume`: the rest of the list allocates, releases and writes what
// the other side counts on, while kernels are left out until the error was told.
#include "kernel.h"

#define UFB_EXPORT(name) extern "C" __attribute__((export_name(#name)))

extern "C" {
extern unsigned char __heap_base;
}

namespace ufb {
namespace wasm {
extern const KernelEntry kernels[];
}

namespace {

// ------------------------------------------------------------------ memory

constexpr size_t pageSize = 65536;

// Blocks come in sizes of which there are eight to each doubling. One that is given back waits for the next of its size: a program whose
// needs repeat takes no more memory from the second round on.
class Heap {
 public:
  // Null if there is no memory. 64-byte aligned.
  void* allocate(uint64_t bytes) {
    if (bytes > uint64_t{1} << 32) return nullptr;
    const Size size = sizeFor(bytes);
    Block*& free = free_[size.index];
    if (free) {
      Block* block = free;
      free = block->next;
      return block;
    }
    if (!next_) next_ = (reinterpret_cast<uintptr_t>(&__heap_base) + 63) / 64 * 64;
    const uint64_t end = next_ + size.bytes, have = static_cast<uint64_t>(__builtin_wasm_memory_size(0)) * pageSize;
    if (end > uint64_t{1} << 32) return nullptr;
    if (end > have && __builtin_wasm_memory_grow(0, (end - have + pageSize - 1) / pageSize) == SIZE_MAX) return nullptr;
    void* block = reinterpret_cast<void*>(static_cast<uintptr_t>(next_));
    next_ = end;
    return block;
  }
  void release(void* memory, uint64_t bytes) {
    if (!memory) return;
    Block* block = static_cast<Block*>(memory);
    Block*& free = free_[sizeFor(bytes).index];
    block->next = free;
    free = block;
  }

 private:
  struct Block {
    Block* next;
  };
  struct Size {
    uint64_t bytes;
    int index;
  };
  static Size sizeFor(uint64_t bytes) {
    if (bytes <= 512) {
      const uint64_t steps = bytes > 64 ? (bytes + 63) / 64 : 1;
      return {steps * 64, static_cast<int>(steps)};
    }
    const int shift = 60 - __builtin_clzll(bytes - 1);  // so that an eighth of the power of two below is 1 << shift
    const uint64_t steps = (bytes + (uint64_t{1} << shift) - 1) >> shift;
    return {steps << shift, (shift - 5) * 8 + static_cast<int>(steps)};
  }
  uint64_t next_ = 0;
  Block* free_[8 * 32] = {};
};

Heap heap;

// ------------------------------------------------------------------ threads

constexpr int mostThreads = 64;

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
  int32_t claimed_[mostThreads] = {};  // by each in the task that it is in
};
Threads threads;
#endif

// ------------------------------------------------------------------ scratch and errors

struct Scratch {
  void* block;
  uint64_t bytes;
};
Scratch scratches[mostThreads + 1];
int heapLock = 0;

// The first late error: a format with up to three integers, %lld each.
bool failed = false;
struct Failure {
  double format, values[3];
} failure;

void fail(Context*, const char* format, long long a, long long b, long long c) {
  if (__atomic_exchange_n(&failed, true, __ATOMIC_SEQ_CST)) return;
  failure = {static_cast<double>(reinterpret_cast<uintptr_t>(format)), {static_cast<double>(a), static_cast<double>(b), static_cast<double>(c)}};
}

void* scratch(Context*, int worker, uint64_t bytes) {
  Scratch& own = scratches[worker];
  if (own.block && own.bytes >= bytes) return own.block;
  while (__atomic_exchange_n(&heapLock, 1, __ATOMIC_SEQ_CST)) {}
  heap.release(own.block, own.bytes);
  own = {heap.allocate(bytes), bytes};
  __atomic_store_n(&heapLock, 0, __ATOMIC_SEQ_CST);
  if (!own.block) {
    fail(nullptr, "no memory for %lld bytes of scratch", static_cast<long long>(bytes), 0, 0);
    __builtin_trap();
  }
  return own.block;
}

void run(Context*, void (*task)(void*, size_t, int), void* data, size_t count) {
#ifdef UFB_THREADS
  threads.run(task, data, count);
  if (threads.left()) __builtin_trap();  // what the helper should have made is missing: the kernel must not go on
#else
  for (size_t index = 0; index < count; index++) task(data, index, 0);
#endif
}

Context context{1, run, scratch, fail};

// ------------------------------------------------------------------ commands

enum Command { releaseBlock = -1, writeInline = -2, writeStaged = -3, allocateBlock = -4 };

// What tensors' addresses name: block number times 2^32, plus the byte within it.
struct Allocated {
  void* memory;
  uint64_t bytes;
};
Allocated* blocks = nullptr;
size_t blockCount = 0;

bool reach(size_t number) {
  if (number < blockCount) return true;
  const size_t longer = number * 2 + 64;
  Allocated* table = static_cast<Allocated*>(heap.allocate(longer * sizeof(Allocated)));
  if (!table) return false;
  for (size_t i = 0; i < longer; i++) table[i] = i < blockCount ? blocks[i] : Allocated{nullptr, 0};
  heap.release(blocks, blockCount * sizeof(Allocated));
  blocks = table;
  blockCount = longer;
  return true;
}

// Null of an absent operand, and of a tensor that found no memory.
char* locate(double address) {
  const uint64_t whole = static_cast<uint64_t>(address);
  const size_t number = static_cast<size_t>(whole >> 32);
  char* memory = number < blockCount ? static_cast<char*>(blocks[number].memory) : nullptr;
  return memory ? memory + (whole & 0xffffffffu) : nullptr;
}

// Values that are written stay written, whatever failed before; a tensor that found no memory has nowhere to keep them, and staged
// values may have found none themselves.
void copyBytes(void* to, const void* from, size_t bytes) {
  if (to && from) __builtin_memcpy(to, from, bytes);
  else fail(nullptr, "no memory for a tensor's values, %lld bytes", static_cast<long long>(bytes), 0, 0);
}

// The list that is being run, and where it goes on.
struct List {
  const double *next, *end;
  const int* numbers;
  char* const* staged;
} list;

}  // namespace
}  // namespace ufb

using namespace ufb;

// A kernel's number by its name's address and length in memory; -1 if there is none.
UFB_EXPORT(kernel) int kernel(const char* name, size_t length) {
  for (int i = 0; wasm::kernels[i].name; i++) {
    size_t at = 0;
    while (at < length && wasm::kernels[i].name[at] == name[at]) at++;
    if (at == length && wasm::kernels[i].name[at] == 0) return i;
  }
  return -1;
}

UFB_EXPORT(start) void start(int count) { context.threads = count < mostThreads ? count : mostThreads; }
UFB_EXPORT(allocate) void* allocate(size_t bytes) { return heap.allocate(bytes); }
UFB_EXPORT(release) void release(void* memory, size_t bytes) { heap.release(memory, bytes); }
UFB_EXPORT(locate) void* locateBlock(double address) { return locate(address); }
// The first late error since the last call, null if there was none.
UFB_EXPORT(takeFailure) const Failure* takeFailure() {
  const bool had = failed;
  failed = false;
  return had ? &failure : nullptr;
}

static void goOn() {
  while (list.next < list.end) {
    const double* command = list.next;
    const int code = static_cast<int>(command[0]);
    const size_t operandCount = static_cast<size_t>(command[1]);
    const double *addresses = command + 2, *values = addresses + operandCount + 1;
    list.next = values + static_cast<size_t>(addresses[operandCount]);
    const size_t number = operandCount > 0 ? static_cast<size_t>(addresses[0] / 4294967296.0) : 0;
    if (code == allocateBlock) {
      const uint64_t bytes = static_cast<uint64_t>(values[0]);
      void* memory = reach(number) ? heap.allocate(bytes) : nullptr;
      if (memory) blocks[number] = {memory, bytes};
      else fail(nullptr, "no memory for a tensor of %lld bytes", static_cast<long long>(bytes), 0, 0);
    } else if (code == releaseBlock) {
      if (number >= blockCount) continue;
      heap.release(blocks[number].memory, blocks[number].bytes);
      blocks[number] = {nullptr, 0};
    } else if (code == writeInline) {
      copyBytes(locate(addresses[0]), values + 1, static_cast<size_t>(values[0]));
    } else if (code == writeStaged) {
      copyBytes(locate(addresses[0]), list.staged[static_cast<size_t>(addresses[1]) - 1], static_cast<size_t>(values[0]));
    } else if (!failed) {
      void* operands[32];
      for (size_t i = 0; i < operandCount; i++) {
        operands[i] = locate(addresses[i]);
        if (!operands[i] && addresses[i] != 0) fail(nullptr, "a tensor found no memory", 0, 0, 0);
      }
      if (!failed) wasm::kernels[list.numbers[code]].kernel(context, {operands, values});
    }
  }
}
// Runs a list of `used` numbers. numbers[code] is the kernel of a code from 0 on; staged[i] where the i-th staged block lies, null if
// there was no memory for it.
UFB_EXPORT(run) void runList(const double* commands, size_t used, const int* numbers, char* const* staged) {
  list = {commands, commands + used, numbers, staged};
  goOn();
}

// Goes on with the list after a kernel was left by a trap.
UFB_EXPORT(resume) void resume() {
#ifdef UFB_THREADS
  threads.abandon();
#endif
  fail(nullptr, "a kernel failed", 0, 0, 0);
  goOn();
}

// Whether a late error is waiting to be told.
UFB_EXPORT(hasFailed) bool hasFailed() { return __atomic_load_n(&failed, __ATOMIC_SEQ_CST); }

#ifdef UFB_THREADS
// Goes on helping after a trap.
UFB_EXPORT(helpAgain) void helpAgain(int worker) {
  fail(nullptr, "a kernel failed", 0, 0, 0);
  threads.leave(worker);
  threads.help(worker);
}
UFB_EXPORT(help) void help(int worker) { threads.help(worker); }
#endif
