// The list of commands that src/backend/command_list.ts writes: a run of numbers, command after command: code, operand count, operand
// addresses (0: absent), number count, numbers. Codes from 0 on are kernels; the others are below.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace ufb {

enum Command {
  releaseBlock = -1,   // operand: the block
  writeInline = -2,    // operand: where to; numbers: bytes, then the bytes themselves
  writeStaged = -3,    // operands: where to, what is staged; numbers: bytes
  allocateBlock = -4,  // operand: the block; numbers: bytes (WASM)
  // Native only, in a group of ranks. Operands: of each part its data and, of a table, its flags behind. Numbers: whether floats travel in
  // bf16; then for each part its kind (Part::Kind), rows and width. A part that is not a table is one row.
  startSum = -5,
  startGather = -6,     // the same, all parts tables without flags
  awaitExchanges = -7,  // until all that was started is done
};

// More operands than any kernel takes; what a kernel takes beyond those given is absent.
constexpr size_t maxOperands = 32;

class CommandReader {
 public:
  CommandReader() = default;
  CommandReader(const double* list, size_t length) : next_(list), end_(list + length) {}

  // Moves on to the next command; false at the end of the list. What came before may be left at any time, and gone on from.
  bool next() {
    if (next_ >= end_) return false;
    code_ = static_cast<int>(next_[0]);
    operandCount_ = static_cast<size_t>(next_[1]);
    addresses_ = next_ + 2;
    numbers_ = addresses_ + operandCount_ + 1;
    next_ = numbers_ + static_cast<size_t>(addresses_[operandCount_]);
    return true;
  }
  int code() const { return code_; }
  size_t operandCount() const { return operandCount_; }
  double address(size_t i) const { return addresses_[i]; }
  const double* numbers() const { return numbers_; }
  size_t numberCount() const { return static_cast<size_t>(addresses_[operandCount_]); }
  size_t bytes() const { return static_cast<size_t>(numbers_[0]); }
  // Of writeInline.
  const void* inlined() const { return numbers_ + 1; }

 private:
  const double *next_ = nullptr, *end_ = nullptr, *addresses_ = nullptr, *numbers_ = nullptr;
  int code_ = 0;
  size_t operandCount_ = 0;
};

}  // namespace ufb
