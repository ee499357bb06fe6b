// SPDX-License-Identifier: MIT
/// @file
/// One sequence in the cache of one layer, as a value: copies fork it.
#pragma once

#include "heed/kv/kv_slots.hpp"

#include <atomic>
#include <span>
#include <utility>

namespace heed::inline HEED_ABI {

template <class T, StorageOf<T> S>
class KvCache;
template <class T, StorageOf<T> S>
class KvMark;
namespace detail {
template <class T, StorageOf<T> S>
struct KvFile;
}

/// One token that a sequence holds.
template <class T>
struct KvToken {
  Index position;
  T f;       ///< F of the next row, in natural units; 0 without selection.
  T weight;  ///< Weights received, if the rule counts them; else 0.
};

/// One sequence in the cache of one layer. KvCache::open() makes one and KvCache::step() extends
/// it.
///
/// A sequence is a value. A copy is a fork: both share the pages of their common tokens until one
/// of them writes to a page, which is then copied. The destructor and close() return its pages to
/// the pool. A default-constructed, closed or moved-from sequence cannot take part in a step.
///
/// Different sequences may be used by different threads at a time, even if they share pages.
template <class T, StorageOf<T> S = T>
class KvSequence {
  using Config = detail::KvConfig<T, S>;

 public:
  KvSequence() = default;
  KvSequence(const KvSequence& o)
      : config_(o.config_), id_(new_id()), budget_(o.budget_), next_(o.next_), parts_(o.parts_) {}
  KvSequence(KvSequence&& o) noexcept
      : config_(std::move(o.config_)),
        id_(o.id_),
        budget_(o.budget_),
        next_(std::exchange(o.next_, 0)),
        parts_(std::move(o.parts_)) {}
  /// Strong exception guarantee: unchanged if memory runs out.
  KvSequence& operator=(const KvSequence& o) { return *this = KvSequence(o); }
  KvSequence& operator=(KvSequence&& o) noexcept {
    KvSequence from(std::move(o));  // its destructor returns the pages of *this
    std::swap(config_, from.config_), std::swap(id_, from.id_), std::swap(budget_, from.budget_);
    std::swap(next_, from.next_), std::swap(parts_, from.parts_);
    return *this;
  }

  bool is_open() const { return bool(config_); }
  /// Returns the pages to the pool. Closing a closed sequence does nothing.
  void close() { *this = KvSequence(); }
  /// Removes all tokens; the next one is at position 0. Room for tokens is kept, pages are not.
  /// @throws ValueError if the sequence is closed, like all that follow but next(), dropped(),
  ///     pages(), own_pages() and bytes(), which are 0 then.
  void clear() {
    expect_open();
    for (KvSlots<T>& s : parts_) {
      s.slots = s.count = 0, s.dropped = 0, s.first = KvSlots<T>::empty_slot;
      s.free.clear(), s.pages.clear(), s.finite.clear(), s.position.clear();
      s.carry.clear(), s.received_weight.clear(), s.inside.clear(), s.marks.clear();
    }
    next_ = 0;
  }

  /// The sizes and options of the cache that opened it.
  const KvShape& shape() const { return config().shape; }
  const KvOptions& options() const { return config().options; }
  KvPool<T, S> pool() const { return config().pool; }
  /// K of this sequence: the cache's, unless KvCache::set_budget() changed it.
  std::optional<Index> budget() const {
    expect_open();
    return budget_;
  }
  /// Position of the next token: how many were appended.
  Index next() const { return next_; }
  /// Tokens that a key head holds.
  Index count(Index key_head = 0) const { return slots(key_head).count; }
  /// The tokens that a key head holds, by position.
  Vector<KvToken<T>> held(Index key_head = 0) const {
    const KvSlots<T>& s = slots(key_head);
    Vector<KvToken<T>> tokens;
    tokens.reserve(std::size_t(s.count));
    for (Index j = 0; j < s.slots; ++j)
      if (s.holds(j))
        tokens.push_back({s.position[std::size_t(j)], s.f(j),
                          s.received_weight.empty() ? T(0) : s.received_weight[std::size_t(j)]});
    std::sort(tokens.begin(), tokens.end(),
              [](const auto& a, const auto& b) { return a.position < b.position; });
    return tokens;
  }
  /// Bound on a row's weight lost to evictions by score_bound.
  double dropped() const {
    double most = 0;
    for (const KvSlots<T>& s : parts_) most = std::max(most, s.dropped);
    return most;
  }
  /// Pages that it refers to, shared ones as well.
  Index pages() const {
    Index count = 0;
    for (const KvSlots<T>& s : parts_) count += Index(s.pages.size());
    return count;
  }
  /// Those of them that no other sequence or mark shares: what close() returns to the pool.
  Index own_pages() const {
    Index count = 0;
    for (const KvSlots<T>& s : parts_)
      for (const detail::Page& page : s.pages) count += !page.is_shared();
    return count;
  }
  /// Bytes allocated beside the pages.
  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const KvSlots<T>& s : parts_) sum += sizeof s + s.bytes();
    return sum;
  }
  /// The slots of a key head, for the library and its tests. @throws ValueError
  const KvSlots<T>& slots(Index key_head = 0) const {
    const Config& c = config();
    if (key_head < 0 || key_head >= c.shape.key_heads)
      throw ValueError("key head ", key_head, " is asked for, there are ", c.shape.key_heads);
    return parts_[std::size_t(key_head / c.part_heads())];
  }

  /// The state as it is now, to return to. It shares the pages until the sequence writes to them.
  KvMark<T, S> mark() const;
  /// Returns to a mark of this sequence: undoes all steps, evictions and budgets since.
  /// @throws ValueError if the mark is of another sequence; std::bad_alloc. Nothing has changed
  ///     then.
  void roll_back(const KvMark<T, S>& mark);
  /// The same with the mark's own state: only a mark of another sequence can make it fail.
  void roll_back(KvMark<T, S>&& mark);

  /// Removes the tokens from position `tokens` on, so that the next one is there.
  /// @throws ValueError if there are fewer, if tokens were evicted since, or if the tokens that
  /// stay
  ///     have F or weights from rows that go: use mark() then.
  void truncate(Index tokens) {
    const Config& c = config();
    if (tokens < 0 || tokens > next_)
      throw ValueError("truncate to ", tokens, " tokens: the sequence has ", next_);
    if (tokens == next_) return;
    if (c.options.select || c.options.evict.uses_weights())
      throw ValueError(
          "truncate to ", tokens, " of ", next_,
          " tokens: rows that go have changed F or weights of tokens that stay; return "
          "to a mark instead");
    for (const KvSlots<T>& s : parts_) {
      Index stay = 0;
      for (Index j = 0; j < s.slots; ++j) stay += s.holds(j) && s.position[std::size_t(j)] < tokens;
      if (stay != tokens)
        throw ValueError("truncate to ", tokens, " of ", next_, " tokens: ", tokens - stay,
                         " of them were evicted; return to a mark instead");
    }
    remove(tokens, next_);
    next_ = tokens;
  }
  /// Keeps one path of a tree of drafted tokens (KvStep::parents), which the last step appended
  /// from position `first` on: the tokens first + path[0], first + path[1], … move to the positions
  /// first, first + 1, …, and the others go.
  /// @throws ValueError unless `path` rises and lies within the tokens from `first` on.
  void accept(Index first, std::span<const Index> path) {
    expect_open();
    if (first < 0 || first > next_)
      throw ValueError("accept tokens from position ", first, " on: the sequence has ", next_);
    for (std::size_t n = 0; n < path.size(); ++n)
      if (path[n] < 0 || path[n] >= next_ - first || (n > 0 && path[n] <= path[n - 1]))
        throw ValueError("accept token ", path[n], " of ", next_ - first,
                         ": the path must rise and lie within them");
    for (KvSlots<T>& s : parts_) s.free.reserve(std::size_t(s.capacity()));
    for (KvSlots<T>& s : parts_) {
      for (Index j = 0; j < s.slots; ++j) {
        Index& position = s.position[std::size_t(j)];
        if (!s.holds(j) || position < first) continue;
        Index place = 0;
        while (place < Index(path.size()) && path[std::size_t(place)] < position - first) ++place;
        if (place == Index(path.size()) || path[std::size_t(place)] != position - first) {
          detail::free_slot(s, j), --s.count;
          continue;
        }
        position = first + place;
        detail::mark_token(s, *config_, j, s.marks[std::size_t(j)]);  // positions are protected
      }
      detail::release_pages(s, *config_);
    }
    next_ = first + Index(path.size());
  }
  /// Evicts the tokens at positions [first, last), protected or not. Others keep their positions.
  /// @throws ValueError unless 0 ≤ first ≤ last ≤ next().
  void drop(Index first, Index last) {
    expect_open();
    if (first < 0 || first > last || last > next_)
      throw ValueError("drop positions ", first, " … ", last - 1, ": the sequence has ", next_);
    remove(first, last);
  }

 private:
  friend class KvCache<T, S>;
  friend class KvMark<T, S>;
  friend struct detail::KvFile<T, S>;

  KvSequence(detail::Shared<const Config> config)
      : config_(std::move(config)),
        id_(new_id()),
        budget_(config_->options.budget),
        parts_(std::size_t(config_->parts())) {}

  static std::uint64_t new_id() {
    static std::atomic<std::uint64_t> last{0};
    return ++last;
  }
  void expect_open() const {
    if (!is_open()) throw ValueError("the sequence is closed");
  }
  const Config& config() const {
    expect_open();
    return *config_;
  }
  void remove(Index first, Index last) {
    for (KvSlots<T>& s : parts_) s.free.reserve(std::size_t(s.capacity()));
    for (KvSlots<T>& s : parts_) {
      const Index count = s.count;
      for (Index j = 0; j < s.slots; ++j)
        if (s.holds(j) && s.position[std::size_t(j)] >= first && s.position[std::size_t(j)] < last)
          detail::vacate_slot(s, j), --s.count;
      for (Index j = 0; j < s.slots && !s.inside.empty(); ++j)
        if (s.holds(j) && s.position[std::size_t(j)] >= last)
          s.inside[std::size_t(j)] -= count - s.count;
      detail::release_pages(s, *config_);
    }
  }

  detail::Shared<const Config> config_;  // declared before the pages, which need the pool
  std::uint64_t id_ = 0;
  std::optional<Index> budget_;
  Index next_ = 0;
  Vector<KvSlots<T>> parts_;  ///< one, or one per key head
};

/// Result of KvSequence::mark(): the state of a sequence at one time. Immutable.
template <class T, StorageOf<T> S = T>
class KvMark {
 public:
  const KvSequence<T, S>& sequence() const { return state_; }
  bool is_of(const KvSequence<T, S>& sequence) const {
    return sequence.is_open() && sequence.id_ == of_;
  }

 private:
  friend class KvSequence<T, S>;
  explicit KvMark(const KvSequence<T, S>& of) : state_(of), of_(of.id_) {}

  KvSequence<T, S> state_;
  std::uint64_t of_;
};

template <class T, StorageOf<T> S>
KvMark<T, S> KvSequence<T, S>::mark() const {
  expect_open();
  return KvMark<T, S>(*this);
}
template <class T, StorageOf<T> S>
void KvSequence<T, S>::roll_back(const KvMark<T, S>& mark) {
  roll_back(KvMark<T, S>(mark));
}
template <class T, StorageOf<T> S>
void KvSequence<T, S>::roll_back(KvMark<T, S>&& mark) {
  expect_open();
  if (mark.of_ != id_)
    throw ValueError("the mark is of sequence ", mark.of_, ", the sequence to roll back is ", id_);
  mark.state_.id_ = id_;
  *this = std::move(mark.state_);
}

/// A saved sequence, to restore later or in another buffer. The former name.
template <class T, StorageOf<T> S = T>
using KvSnapshot = KvSequence<T, S>;

}  // namespace heed::inline HEED_ABI
