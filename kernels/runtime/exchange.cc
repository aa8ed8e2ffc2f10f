#include "exchange.h"

#include <cstring>

namespace ufb {

bool Exchange::advance(const World& world, bool& moved) {
  for (;;) {
    if (waiting_) {
      bool done = false;
      check(world, "MPI_Test", world.mpi->test(request_, done));
      if (!done) return false;
      waiting_ = false;
    }
    moved = true;
    if (!stage(world, request_)) return true;
    waiting_ = true;
  }
}

void Exchange::check(const World& world, const char* what, int code) {
  if (code != 0) throw MpiFailure{std::string(what) + " of rank " + std::to_string(world.rank) + ": " + world.mpi->textOf(code)};
}

int Exchange::wordCount(size_t words) {
  if (words > 0x7fffffff) throw MpiFailure{"an exchange of " + std::to_string(words) + " words is more than the 2147483647 that MPI counts"};
  return static_cast<int>(words);
}

size_t Exchange::placesOf(const std::vector<int>& counts, std::vector<int>& places) {
  size_t total = 0;
  places.resize(counts.size());
  for (size_t i = 0; i < counts.size(); i++) {
    places[i] = wordCount(total);
    total += static_cast<size_t>(counts[i]);
  }
  wordCount(total);
  return total;
}

bool GatherExchange::stage(const World& world, MpiRequest& request) {
  const auto first = [&](const Part& part, int rank) { return part.rows * static_cast<size_t>(rank) / static_cast<size_t>(world.size); };
  const auto wordsOf = [&](const Part& part, int rank) { return (first(part, rank + 1) - first(part, rank)) * part.width; };
  const auto dataOf = [&](const Part& part, int rank) { return static_cast<int32_t*>(part.data) + first(part, rank) * part.width; };
  if (step_++ == 0) {
    counts_.clear();
    for (int rank = 0; rank < world.size; rank++) {
      size_t words = 0;
      for (const Part& part : parts_) words += wordsOf(part, rank);
      counts_.push_back(wordCount(words));
    }
    const size_t total = placesOf(counts_, places_);
    int32_t* const own = buffers_.send.take(static_cast<size_t>(counts_[static_cast<size_t>(world.rank)]));
    int32_t* out = own;
    for (const Part& part : parts_) {
      std::memcpy(out, dataOf(part, world.rank), 4 * wordsOf(part, world.rank));
      out += wordsOf(part, world.rank);
    }
    const int count = counts_[static_cast<size_t>(world.rank)];
    sentWords = static_cast<size_t>(count) * static_cast<size_t>(world.size - 1);
    check(world, "MPI_Iallgatherv", world.mpi->startAllGather(Mpi::work, own, count, buffers_.gathered.take(total), counts_.data(), places_.data(), request));
    return true;
  }
  for (int rank = 0; rank < world.size; rank++) {
    if (rank == world.rank) continue;
    const int32_t* in = buffers_.gathered.take(0) + places_[static_cast<size_t>(rank)];
    for (const Part& part : parts_) {
      std::memcpy(dataOf(part, rank), in, 4 * wordsOf(part, rank));
      in += wordsOf(part, rank);
    }
  }
  return false;
}

BytesExchange::BytesExchange(const void* bytes, size_t count) : own_((count + 3) / 4), ownBytes_(wordCount(count)) {
  if (count > 0) std::memcpy(own_.data(), bytes, count);
}

bool BytesExchange::stage(const World& world, MpiRequest& request) {
  const size_t size = static_cast<size_t>(world.size);
  const int step = step_++;
  if (step == 0) {
    byteCounts_.resize(size);
    counts_.assign(size, 1);
    placesOf(counts_, wordPlaces_);
    check(world, "MPI_Iallgatherv", world.mpi->startAllGather(Mpi::control, &ownBytes_, 1, byteCounts_.data(), counts_.data(), wordPlaces_.data(), request));
    return true;
  }
  if (step == 1) {
    for (size_t i = 0; i < size; i++) counts_[i] = (byteCounts_[i] + 3) / 4;
    all.resize(placesOf(counts_, wordPlaces_));
    sentWords = own_.size() * (size - 1);
    check(world, "MPI_Iallgatherv", world.mpi->startAllGather(Mpi::control, own_.data(), wordCount(own_.size()), all.data(), counts_.data(), wordPlaces_.data(), request));
    return true;
  }
  for (size_t i = 0; i < size; i++) {
    sizes.push_back(static_cast<size_t>(byteCounts_[i]));
    places.push_back(4 * static_cast<size_t>(wordPlaces_[i]));
  }
  return false;
}

bool Broadcast::stage(const World& world, MpiRequest& request) {
  constexpr size_t most = size_t{1} << 28;
  const size_t begin = most * static_cast<size_t>(step_++);
  if (begin >= words_) return false;
  const size_t count = words_ - begin < most ? words_ - begin : most;
  check(world, "MPI_Ibcast", world.mpi->startBroadcast(Mpi::control, data_ + begin, wordCount(count), root_, request));
  return true;
}

}  // namespace ufb
