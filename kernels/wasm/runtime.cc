// The runtime of the WASM builds, without any library: memory, the list of commands (../command_list.h) and
// the threads that share a kernel's work. src/backend/wasm_worker.js calls `start` once and `run` for each list; in the threaded
// builds further workers call `help`, which does not return.
// There are no exceptions here: a kernel that finds no scratch traps, which leaves it; where that was a helper, who then calls `helpAgain`,
// the worker's own part of the kernel traps next. The worker then calls `resume`: the rest of the list allocates, releases and writes what
// the other side counts on, while kernels are left out until the error was told.
#include "command_list.h"
#include "heap.h"
#include "kernel.h"
#include "threads.h"

#define UFB_EXPORT(name) extern "C" __attribute__((export_name(#name)))

namespace ufb {
namespace wasm {
extern const KernelEntry kernels[];
}

namespace {

Heap heap;
#ifdef UFB_THREADS
Threads threads;
#endif

// ------------------------------------------------------------------ scratch and errors

struct Scratch {
  void* block;
  uint64_t bytes;
};
Scratch scratches[maxThreads + 1];
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
  CommandReader commands;
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

UFB_EXPORT(start) void start(int count) { context.threads = count < maxThreads ? count : maxThreads; }
UFB_EXPORT(allocate) void* allocate(size_t bytes) { return heap.allocate(bytes); }
UFB_EXPORT(release) void release(void* memory, size_t bytes) { heap.release(memory, bytes); }
UFB_EXPORT(locate) void* locateBlock(double address) { return locate(address); }
// The first late error since the last call, null if there was none.
UFB_EXPORT(takeFailure) const Failure* takeFailure() {
  const bool had = failed;
  failed = false;
  return had ? &failure : nullptr;
}

static void runCommand(const CommandReader& command) {
  const double first = command.operandCount() > 0 ? command.address(0) : 0;
  const size_t number = static_cast<size_t>(first / 4294967296.0);
  switch (command.code()) {
    case allocateBlock: {
      const uint64_t bytes = static_cast<uint64_t>(command.numbers()[0]);
      void* memory = reach(number) ? heap.allocate(bytes) : nullptr;
      if (memory) blocks[number] = {memory, bytes};
      else fail(nullptr, "no memory for a tensor of %lld bytes", static_cast<long long>(bytes), 0, 0);
      return;
    }
    case releaseBlock:
      if (number >= blockCount) return;
      heap.release(blocks[number].memory, blocks[number].bytes);
      blocks[number] = {nullptr, 0};
      return;
    case writeInline:
      return copyBytes(locate(first), command.inlined(), command.bytes());
    case writeStaged:
      return copyBytes(locate(first), list.staged[static_cast<size_t>(command.address(1)) - 1], command.bytes());
  }
  if (failed) return;
  void* operands[maxOperands] = {};
  for (size_t i = 0; i < command.operandCount(); i++) {
    operands[i] = locate(command.address(i));
    if (!operands[i] && command.address(i) != 0) fail(nullptr, "a tensor found no memory", 0, 0, 0);
  }
  if (!failed) wasm::kernels[list.numbers[command.code()]].kernel(context, {operands, command.numbers()});
}

static void goOn() {
  while (list.commands.next()) runCommand(list.commands);
}
// Runs a list of `used` numbers. numbers[code] is the kernel of a code from 0 on; staged[i] where the i-th staged block lies, null if
// there was no memory for it.
UFB_EXPORT(run) void runList(const double* commands, size_t used, const int* numbers, char* const* staged) {
  list = {CommandReader(commands, used), numbers, staged};
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
