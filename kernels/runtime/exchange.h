// What ranks do together. An exchange goes through its stages without ever waiting: whoever has it calls `advance` until it is done.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "mpi.h"

namespace ufb {

// Thrown where MPI gives an error: its words.
struct MpiFailure {
  std::string text;
};

struct World {
  Mpi* mpi;
  int rank, size;
};

class Exchange {
 public:
  virtual ~Exchange() = default;
  // Goes on as far as it can; true when all is done. Throws MpiFailure, and what wants memory std::bad_alloc. `moved`: it is further than before.
  bool advance(const World& world, bool& moved);
  // Words that this rank has sent to others, for reports.
  size_t sentWords = 0;
  // The submitter's own.
  void* owner = nullptr;

 protected:
  // Called again and again, when what it started last is over: starts `request`, or returns false for all is done.
  virtual bool stage(const World& world, MpiRequest& request) = 0;
  static void check(const World& world, const char* what, int code);
  // As MPI counts, who has no more than an int for it.
  static int wordCount(size_t words);
  // Where each begins, one behind the other; returns the sum.
  static size_t placesOf(const std::vector<int>& counts, std::vector<int>& places);
  // What comes next, counted as a class likes; 0 at first.
  int step_ = 0;

 private:
  bool waiting_ = false;
  MpiRequest request_;
};

// Memory that exchanges of one channel use one after the other, so that what was large once is not asked for again and again.
class Buffer {
 public:
  // Contents are not kept.
  int32_t* take(size_t words) {
    if (words > capacity_) {
      words_.reset();
      words_.reset(new int32_t[words]);
      capacity_ = words;
    }
    return words_.get();
  }

 private:
  std::unique_ptr<int32_t[]> words_;
  size_t capacity_ = 0;
};
struct Buffers {
  Buffer send, receive, result, gathered;
};

// Something of each rank that is replaced by the sum over all.
struct Part {
  enum Kind {
    gradient,  // floats, which may be rounded on the way
    exact,     // floats, which may not
    count,     // int32
    table,     // floats [rows, width], of which rows flagged 0 are all 0
  };
  Kind kind;
  void* data;
  int32_t* flags;
  size_t rows, width;
};

/*
 * Sums over the ranks. Each rank gets one share of every part from all others, adds up, and sends the sum to all: 2 (size - 1) / size of a
 * part's words go out of each rank. Of a table only the flagged rows travel; then all rows are flagged that were on any rank.
 *
 * Sums have one order, that of a tree: ranks 0 and 1, ranks 2 and 3 ..., then these pairs, and so on (src/training/gradient_sums.ts adds up
 * the passes of one rank in the same way). With `bf16` what travels is rounded to bf16, of a gradient and of its sum; all ranks get the same.
 */
class SumExchange : public Exchange {
 public:
  SumExchange(std::vector<Part> parts, bool bf16, Buffers& buffers) : parts_(std::move(parts)), bf16_(bf16), buffers_(buffers) {}

 protected:
  bool stage(const World& world, MpiRequest& request) override;

 private:
  struct Shares {
    size_t begin, end;
    size_t count() const { return end - begin; }
  };
  Shares share(Part::Kind kind, int rank) const;
  size_t wireWords(size_t floats) const { return bf16_ ? (floats + 1) / 2 : floats; }
  size_t denseWords(int rank) const;
  template <class Body> void eachPiece(Part::Kind kind, Shares range, Body&& body) const;
  size_t flagged(const Part& table, int owner) const;
  void toWire(const float* from, size_t count, int32_t* words, size_t at) const;
  void fromWire(const int32_t* words, size_t at, size_t count, float* to) const;
  void pack();
  void addUp();
  void addRows(const Part& table, std::vector<const int32_t*>& in, int32_t*& out);
  void unpack();

  std::vector<Part> parts_;
  const bool bf16_;
  Buffers& buffers_;
  int rank_ = 0, size_ = 1;
  bool hasTables_ = false;
  size_t totals_[3] = {};
  std::vector<int> sendCounts_, sendPlaces_, receiveCounts_, receivePlaces_, resultCounts_, resultPlaces_, ones_;
  int resultWords_ = 0;
  std::vector<float> scratch_;
};

// Tables [rows, width] of words of which rank r has the rows from rows r / size to rows (r + 1) / size: all ranks get all.
class GatherExchange : public Exchange {
 public:
  GatherExchange(std::vector<Part> parts, Buffers& buffers) : parts_(std::move(parts)), buffers_(buffers) {}

 protected:
  bool stage(const World& world, MpiRequest& request) override;

 private:
  std::vector<Part> parts_;
  Buffers& buffers_;
  std::vector<int> counts_, places_;
};

// Some bytes of each rank, which all ranks get.
class BytesExchange : public Exchange {
 public:
  explicit BytesExchange(const void* bytes, size_t count);
  // When done: how many bytes each rank sent, and where in `all` they begin.
  std::vector<size_t> sizes, places;
  std::vector<int32_t> all;

 protected:
  bool stage(const World& world, MpiRequest& request) override;

 private:
  std::vector<int32_t> own_;
  int32_t ownBytes_;
  std::vector<int32_t> byteCounts_;
  std::vector<int> counts_, wordPlaces_;
};

// Memory that all ranks get as `root` has it.
class Broadcast : public Exchange {
 public:
  Broadcast(void* data, size_t words, int root) : data_(static_cast<int32_t*>(data)), words_(words), root_(root) {}

 protected:
  bool stage(const World& world, MpiRequest& request) override;

 private:
  int32_t* data_;
  size_t words_;
  int root_;
};

}  // namespace ufb
