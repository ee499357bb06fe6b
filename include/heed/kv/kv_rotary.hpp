// SPDX-License-Identifier: MIT
/// @file
/// Rotary position embedding by positions inside the cache.
#pragma once

#include "heed/core/shared.hpp"
#include "heed/score/rotary_table.hpp"
#include "heed/score/rotary_turn.hpp"

#include <cstring>
#include <mutex>

namespace heed::inline HEED_ABI {
namespace detail {

/// Cosines and sines of the first positions, by position and by pair.
template <class T>
class KvAngles {
 public:
  KvAngles(Index dims, Index positions, const RotaryFrequencies& frequencies)
      : table_(dims, 0, positions, frequencies), by_pair_(std::size_t(positions * dims)) {
    for (Index i = 0; i < pairs(); ++i)
      for (Index p = 0; p < positions; ++p) {
        by_pair_[std::size_t(i * positions + p)] = table_.cosines()(p, i);
        by_pair_[std::size_t((pairs() + i) * positions + p)] = table_.sines()(p, i);
      }
  }
  Index positions() const { return table_.cosines().dim(0); }
  Index pairs() const { return table_.cosines().dim(1); }
  /// Of all pairs at a position.
  RotaryRow<T> at(Index position) const {
    return {table_.cosines().row(position), table_.sines().row(position)};
  }
  /// Of one pair at all positions.
  RotaryRow<T> of(Index pair) const {
    return {by_pair_.data() + pair * positions(), by_pair_.data() + (pairs() + pair) * positions()};
  }

 private:
  RotaryTable<T> table_;
  Vector<T> by_pair_;
};

}  // namespace detail

/// Rotary position embedding that a cache applies itself, by positions inside the cache
/// (StreamingLLM, arXiv:2309.17453):
///
///     s(i, j) = R(p_i) q_i · R(p_j) k_j
///
/// where R(p) turns the first `dims` numbers by the angles of position p, see rotary(); p_j is how
/// many of the tokens held are at positions before j, and p_i is the same of row i. The model never
/// sees a position beyond the budget, however long the text is.
///
/// Keys and queries are given unturned; keys are stored unturned and turned when they are read.
/// Copies share the cosines and sines, so that caches of all layers with one KvRotary have one
/// table, which grows as needed. Thread-safe.
///
/// @note Memory: 2 dims numbers per position, and dims numbers of scratch per token of the
/// sequences
///     in a step, or per token and key head where heads hold different tokens. Turning reads and
///     writes each key once for each tile of up to 96 rows that reads it: in decoding once per key
///     head, for all of its query heads, once more for the head that selects, and once more if the
///     rule counts weights. Before, the cosines and sines are put in the order of the slots, once
///     for all key heads that hold the same tokens: in registers where slots and tokens have one
///     order, as under `oldest`, else number by number. In all a token takes two to three times as
///     long as without.
class KvRotary {
 public:
  /// @param dims  Numbers of a head that are turned, the first ones; even, at least 2.
  /// @throws ValueError, ShapeError as RotaryTable does.
  explicit KvRotary(Index dims, const RotaryFrequencies& frequencies = {},
                    RotaryPairs pairs = RotaryPairs::half_split)
      : angles_(detail::Shared<Angles>::make(dims, frequencies, pairs)) {}

  Index dims() const { return angles_->dims; }
  RotaryPairs pairs() const { return angles_->pairs; }
  /// The factor of all cosines and sines.
  double attention_factor() const { return angles_->factor; }
  /// [dims / 2] the angle from one position to the next.
  View<const double, 1> frequencies() const { return angles_->frequencies_of_pairs(); }

  /// Do both turn keys alike?
  friend bool operator==(const KvRotary& a, const KvRotary& b) {
    const Angles &x = *a.angles_, &y = *b.angles_;
    return a.angles_ == b.angles_ ||
           (x.dims == y.dims && x.pairs == y.pairs && x.factor == y.factor &&
            std::memcmp(x.frequencies.data(), y.frequencies.data(),
                        x.frequencies.size() * sizeof(double)) == 0);
  }

  /// For the library: the cosines and sines of at least so many positions.
  /// @throws std::bad_alloc
  template <class T>
  detail::Shared<const detail::KvAngles<T>> angles(Index positions) const {
    return angles_->template of<T>(positions);
  }

 private:
  struct Angles {
    Index dims;
    RotaryPairs pairs;
    double factor;
    Vector<double> frequencies;  ///< the caller's may be gone when a table is made
    std::mutex mutex;
    detail::Shared<const detail::KvAngles<float>> single;
    detail::Shared<const detail::KvAngles<double>> wide;

    Angles(Index numbers, const RotaryFrequencies& of, RotaryPairs which)
        : dims(checked(numbers)), pairs(which), factor(of.attention_factor()) {
      if (pairs != RotaryPairs::interleaved && pairs != RotaryPairs::half_split)
        throw ValueError("KvRotary: pairs is ", int(pairs), ", must be interleaved or half_split");
      frequencies.resize(std::size_t(dims / 2));
      of.write(dims, frequencies.data());
    }
    static Index checked(Index dims) {
      if (dims < 2 || dims % 2 != 0)
        throw ValueError("KvRotary: ", dims,
                         " numbers are to turn; they must be even in number, and at least 2");
      return dims;
    }

    View<const double, 1> frequencies_of_pairs() const {
      return {frequencies.data(), {Index(frequencies.size())}};
    }
    template <class T>
    detail::Shared<const detail::KvAngles<T>> of(Index positions) {
      const std::lock_guard lock(mutex);
      auto& made = [&]() -> auto& {
        if constexpr (std::is_same_v<T, float>)
          return single;
        else
          return wide;
      }
      ();
      if (const Index there = made ? made->positions() : 0; there < positions)
        made = detail::Shared<const detail::KvAngles<T>>::make(
            dims, std::max(positions, 2 * there),
            RotaryFrequencies{.scaling = GivenRotary{frequencies_of_pairs(), factor}});
      return made;
    }
  };

  detail::Shared<Angles> angles_;
};

}  // namespace heed::inline HEED_ABI
