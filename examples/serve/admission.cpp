// SPDX-License-Identifier: MIT
#include "serve/admission.hpp"

#include "lm/config.hpp"

namespace serve {
namespace {

/// One layer's pages, by the rules of KvCache.
class LayerPages {
 public:
  explicit LayerPages(const heed::KvCache<float>& cache)
      : page_(cache.pool().page()),
        heads_(cache.shape().key_heads),
        budget_(cache.options().budget) {}

  /// Of a sequence of so many tokens, between steps.
  Index held(std::int64_t tokens) const {
    return pages(budget_ ? std::min(tokens, *budget_) : tokens);
  }
  /// Of a sequence of so many tokens, beside what it shares with its prefix at all times.
  Index own(std::int64_t tokens, std::int64_t prefix) const {
    return held(tokens) - shared(tokens, prefix);
  }
  /// That a step sets aside for such a sequence, and returns: its row might write to shared pages.
  Index aside(std::int64_t tokens, std::int64_t prefix) const {
    return std::min(shared(tokens, prefix), heads_);
  }
  /// That a piece of a prompt may need, beyond those of its sequence after it.
  Index reading(std::int64_t rows, std::int64_t prefix) const {
    if (!budget_) return prefix / page_ * heads_;
    return pages(*budget_ + std::min(rows, *budget_) - 1) - pages(*budget_) + held(prefix);
  }

 private:
  /// On a budget a sequence overwrites what it shared.
  Index shared(std::int64_t tokens, std::int64_t prefix) const {
    return budget_ && tokens > *budget_ ? 0 : prefix / page_ * heads_;
  }
  Index pages(std::int64_t tokens) const { return (tokens + page_ - 1) / page_ * heads_; }

  Index page_, heads_;
  std::optional<Index> budget_;
};

}  // namespace

Admission::Admission(const lm::SharedMemory& memory, std::int64_t prefix, std::int64_t piece,
                     double overbook)
    : memory_(memory),
      prefix_(prefix),
      most_(Index(double(*memory.pool().most_pages()) * overbook)) {
  Index reading = 0;
  for (std::int64_t l = 0; l < memory.layers(); ++l) {
    const LayerPages pages(memory[l]);
    base_ += pages.held(prefix);
    reading = std::max(reading, pages.reading(piece, prefix));
  }
  promised_ = base_ += reading;
}

Index Admission::pages_of(std::int64_t tokens) const {
  // The layers take their steps one after the other: what one sets aside serves the next.
  Index own = 0, aside = 0;
  for (std::int64_t l = 0; l < memory_.layers(); ++l) {
    const LayerPages pages(memory_[l]);
    own += pages.own(tokens, prefix_);
    aside = std::max(aside, pages.aside(tokens, prefix_));
  }
  return own + aside;
}

bool Admission::admit(std::int64_t tokens) {
  const Index pages = pages_of(tokens);
  if (promised_ + pages > most_) return false;
  promised_ += pages;
  return true;
}

void Admission::expect_room(std::int64_t tokens) const {
  const Index needed = base_ + pages_of(tokens), there = *memory_.pool().most_pages();
  if (needed > there)
    throw lm::ConfigError("a request of " + std::to_string(tokens) + " tokens needs " +
                          std::to_string(needed) + " pages, with the prefix; the pool has " +
                          std::to_string(there));
}

}  // namespace serve
