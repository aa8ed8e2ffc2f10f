#include <algorithm>
#include <cstring>

#include "exchange.h"

namespace ufb {

namespace {

// Rounded to nearest, ties to even; NaN stays NaN (kernels/bf16.h does the same to vectors).
uint16_t bf16Of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if (value != value) return static_cast<uint16_t>((bits | 0x400000u) >> 16);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
float floatOf(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

// Column sums of `count` rows of `width`, in the order of the tree, into the first.
template <class Value> void addTree(Value* rows, size_t count, size_t width) {
  for (size_t step = 1; step < count; step *= 2)
    for (size_t left = 0; left + step < count; left += 2 * step) {
      Value *const to = rows + left * width, *const from = rows + (left + step) * width;
      for (size_t i = 0; i < width; i++) to[i] += from[i];
    }
}

// Floats that are added up at a time: so many of all ranks lie in the cache.
constexpr size_t chunk = 512;

}  // namespace

SumExchange::Shares SumExchange::share(Part::Kind kind, int rank) const {
  const size_t total = totals_[kind], own = static_cast<size_t>(rank), size = static_cast<size_t>(size_);
  return {total * own / size, total * (own + 1) / size};
}

size_t SumExchange::denseWords(int rank) const {
  return share(Part::exact, rank).count() + share(Part::count, rank).count() + wireWords(share(Part::gradient, rank).count());
}

// body(address, how many, how far from the range's beginning) for what lies together of a range over all parts of a kind.
template <class Body> void SumExchange::eachPiece(Part::Kind kind, Shares range, Body&& body) const {
  size_t first = 0;
  for (const Part& part : parts_) {
    if (part.kind != kind) continue;
    const size_t begin = std::max(first, range.begin), end = std::min(first + part.width, range.end);
    if (begin < end) body(static_cast<int32_t*>(part.data) + (begin - first), end - begin, begin - range.begin);
    first += part.width;
  }
}

size_t SumExchange::flagged(const Part& table, int owner) const {
  size_t count = 0;
  for (size_t row = static_cast<size_t>(owner); row < table.rows; row += static_cast<size_t>(size_)) count += table.flags[row] != 0;
  return count;
}

void SumExchange::toWire(const float* from, size_t count, int32_t* words, size_t at) const {
  if (!bf16_) {
    std::memcpy(words + at, from, 4 * count);
    return;
  }
  uint16_t* const halves = reinterpret_cast<uint16_t*>(words) + at;
  for (size_t i = 0; i < count; i++) halves[i] = bf16Of(from[i]);
}

void SumExchange::fromWire(const int32_t* words, size_t at, size_t count, float* to) const {
  if (!bf16_) {
    std::memcpy(to, words + at, 4 * count);
    return;
  }
  const uint16_t* const halves = reinterpret_cast<const uint16_t*>(words) + at;
  for (size_t i = 0; i < count; i++) to[i] = floatOf(halves[i]);
}

bool SumExchange::stage(const World& world, MpiRequest& request) {
  enum { begin, sendShares, add, sendSums, end };
  const size_t size = static_cast<size_t>(world.size);
  switch (step_) {
    case begin:
      rank_ = world.rank;
      size_ = world.size;
      if (size_ == 1) return false;
      for (const Part& part : parts_) {
        if (part.kind == Part::table) hasTables_ = true;
        else totals_[part.kind] += part.width;
      }
      pack();
      step_ = sendShares;
      // Without tables all have shares of one size.
      receiveCounts_.assign(size, sendCounts_[static_cast<size_t>(rank_)]);
      if (hasTables_) {
        check(world, "MPI_Ialltoall", world.mpi->startAllToAll(Mpi::work, sendCounts_.data(), receiveCounts_.data(), 1, request));
        return true;
      }
      [[fallthrough]];
    case sendShares: {
      int32_t* const received = buffers_.receive.take(placesOf(receiveCounts_, receivePlaces_));
      step_ = add;
      check(world, "MPI_Ialltoallv", world.mpi->startAllToAll(Mpi::work, buffers_.send.take(0), sendCounts_.data(), sendPlaces_.data(), received, receiveCounts_.data(), receivePlaces_.data(), request));
      return true;
    }
    case add:
      addUp();
      step_ = sendSums;
      resultCounts_.resize(size);
      if (hasTables_) {
        ones_.assign(size, 1);
        placesOf(ones_, resultPlaces_);
        check(world, "MPI_Iallgatherv", world.mpi->startAllGather(Mpi::work, &resultWords_, 1, resultCounts_.data(), ones_.data(), resultPlaces_.data(), request));
        return true;
      }
      for (int rank = 0; rank < size_; rank++) resultCounts_[static_cast<size_t>(rank)] = wordCount(denseWords(rank));
      [[fallthrough]];
    case sendSums: {
      int32_t* const gathered = buffers_.gathered.take(placesOf(resultCounts_, resultPlaces_));
      sentWords += static_cast<size_t>(resultWords_) * (size - 1);
      step_ = end;
      check(world, "MPI_Iallgatherv", world.mpi->startAllGather(Mpi::work, buffers_.result.take(0), resultWords_, gathered, resultCounts_.data(), resultPlaces_.data(), request));
      return true;
    }
    default:
      unpack();
      return false;
  }
}

// A share: the dense parts', then of each table how many rows, their numbers, and their values.
void SumExchange::pack() {
  const size_t size = static_cast<size_t>(size_);
  sendCounts_.clear();
  for (int owner = 0; owner < size_; owner++) {
    size_t words = denseWords(owner);
    for (const Part& part : parts_) {
      if (part.kind != Part::table) continue;
      const size_t rows = flagged(part, owner);
      words += 1 + rows + wireWords(rows * part.width);
    }
    sendCounts_.push_back(wordCount(words));
  }
  int32_t* const all = buffers_.send.take(placesOf(sendCounts_, sendPlaces_));
  for (int owner = 0; owner < size_; owner++) {
    int32_t* out = all + sendPlaces_[static_cast<size_t>(owner)];
    if (owner != rank_) sentWords += static_cast<size_t>(sendCounts_[static_cast<size_t>(owner)]);
    for (const Part::Kind kind : {Part::exact, Part::count}) {
      eachPiece(kind, share(kind, owner), [&](int32_t* data, size_t count, size_t at) { std::memcpy(out + at, data, 4 * count); });
      out += share(kind, owner).count();
    }
    eachPiece(Part::gradient, share(Part::gradient, owner), [&](int32_t* data, size_t count, size_t at) { toWire(reinterpret_cast<float*>(data), count, out, at); });
    out += wireWords(share(Part::gradient, owner).count());
    for (const Part& part : parts_) {
      if (part.kind != Part::table) continue;
      int32_t* const count = out++;
      int32_t* const numbers = out;
      for (size_t row = static_cast<size_t>(owner); row < part.rows; row += size)
        if (part.flags[row]) *out++ = static_cast<int32_t>(row);
      const size_t rows = static_cast<size_t>(out - numbers);
      *count = static_cast<int32_t>(rows);
      for (size_t i = 0; i < rows; i++) toWire(static_cast<const float*>(part.data) + static_cast<size_t>(numbers[i]) * part.width, part.width, out, i * part.width);
      out += wireWords(rows * part.width);
    }
  }
}

void SumExchange::addUp() {
  const size_t size = static_cast<size_t>(size_);
  std::vector<const int32_t*> in(size);
  for (size_t rank = 0; rank < size; rank++) in[rank] = buffers_.receive.take(0) + receivePlaces_[rank];
  const auto pass = [&](size_t words) { for (const int32_t*& from : in) from += words; };

  // As large as it can become: every row of every rank another.
  size_t most = denseWords(rank_);
  for (size_t rank = 0; rank < size; rank++) most += static_cast<size_t>(receiveCounts_[rank]);
  int32_t* const result = buffers_.result.take(most);
  int32_t* out = result;

  const auto sumOf = [&](size_t count, bool wire) {
    scratch_.resize(std::max(scratch_.size(), size * chunk));
    for (size_t begin = 0; begin < count; begin += chunk) {
      const size_t n = std::min(chunk, count - begin);
      for (size_t rank = 0; rank < size; rank++) {
        if (wire) fromWire(in[rank], begin, n, scratch_.data() + rank * n);
        else std::memcpy(scratch_.data() + rank * n, in[rank] + begin, 4 * n);
      }
      addTree(scratch_.data(), size, n);
      if (wire) toWire(scratch_.data(), n, out, begin);
      else std::memcpy(out + begin, scratch_.data(), 4 * n);
    }
    const size_t words = wire ? wireWords(count) : count;
    pass(words);
    out += words;
  };
  sumOf(share(Part::exact, rank_).count(), false);
  const size_t counts = share(Part::count, rank_).count();
  for (size_t i = 0; i < counts; i++) {
    uint32_t sum = 0;
    for (const int32_t* from : in) sum += static_cast<uint32_t>(from[i]);
    out[i] = static_cast<int32_t>(sum);
  }
  pass(counts);
  out += counts;
  sumOf(share(Part::gradient, rank_).count(), true);
  for (const Part& part : parts_)
    if (part.kind == Part::table) addRows(part, in, out);
  resultWords_ = wordCount(static_cast<size_t>(out - result));
}

// The union of the ranks' rows of a table, from `in`, which moves on behind them.
void SumExchange::addRows(const Part& table, std::vector<const int32_t*>& in, int32_t*& out) {
  const size_t size = in.size(), width = table.width;
  struct Rows {
    const int32_t *number, *end, *values;
    size_t taken;
  };
  std::vector<Rows> ranks(size);
  for (size_t rank = 0; rank < size; rank++) {
    const size_t count = static_cast<size_t>(*in[rank]);
    const int32_t* const numbers = in[rank] + 1;
    ranks[rank] = {numbers, numbers + count, numbers + count, 0};
    in[rank] = numbers + count + wireWords(count * width);
  }
  int32_t* const count = out++;
  int32_t* const numbers = out;
  // First the numbers, for the values come behind them.
  std::vector<size_t> next(size, 0);
  for (;;) {
    int32_t least = 0x7fffffff;
    for (size_t rank = 0; rank < size; rank++)
      if (ranks[rank].number + next[rank] < ranks[rank].end) least = std::min(least, ranks[rank].number[next[rank]]);
    if (least == 0x7fffffff) break;
    for (size_t rank = 0; rank < size; rank++)
      if (ranks[rank].number + next[rank] < ranks[rank].end && ranks[rank].number[next[rank]] == least) next[rank]++;
    *out++ = least;
  }
  const size_t rows = static_cast<size_t>(out - numbers);
  *count = static_cast<int32_t>(rows);
  scratch_.resize(std::max(scratch_.size(), size * width));
  std::vector<char> present(size);
  for (size_t i = 0; i < rows; i++) {
    for (size_t rank = 0; rank < size; rank++) {
      Rows& own = ranks[rank];
      present[rank] = own.number < own.end && *own.number == numbers[i];
      if (!present[rank]) continue;
      fromWire(own.values, own.taken++ * width, width, scratch_.data() + rank * width);
      own.number++;
    }
    for (size_t step = 1; step < size; step *= 2)
      for (size_t left = 0; left + step < size; left += 2 * step) {
        float *const to = scratch_.data() + left * width, *const from = scratch_.data() + (left + step) * width;
        const bool has = present[left + step];
        // As where one trainer adds up: the earlier sum is added to the later, which is 0 where it has no such row (-0 + 0 is 0).
        if (present[left]) for (size_t j = 0; j < width; j++) to[j] += has ? from[j] : 0.0f;
        else if (has) std::memcpy(to, from, 4 * width);
        present[left] = present[left] || has;
      }
    toWire(scratch_.data(), width, out, i * width);
  }
  out += wireWords(rows * width);
}

void SumExchange::unpack() {
  for (int owner = 0; owner < size_; owner++) {
    const int32_t* in = buffers_.gathered.take(0) + resultPlaces_[static_cast<size_t>(owner)];
    for (const Part::Kind kind : {Part::exact, Part::count}) {
      eachPiece(kind, share(kind, owner), [&](int32_t* data, size_t count, size_t at) { std::memcpy(data, in + at, 4 * count); });
      in += share(kind, owner).count();
    }
    eachPiece(Part::gradient, share(Part::gradient, owner), [&](int32_t* data, size_t count, size_t at) { fromWire(in, at, count, reinterpret_cast<float*>(data)); });
    in += wireWords(share(Part::gradient, owner).count());
    for (const Part& part : parts_) {
      if (part.kind != Part::table) continue;
      const size_t rows = static_cast<size_t>(*in++);
      const int32_t* const numbers = in;
      in += rows;
      for (size_t i = 0; i < rows; i++) {
        const size_t row = static_cast<size_t>(numbers[i]);
        fromWire(in, i * part.width, part.width, static_cast<float*>(part.data) + row * part.width);
        part.flags[row] = 1;
      }
      in += wireWords(rows * part.width);
    }
  }
}

}  // namespace ufb
