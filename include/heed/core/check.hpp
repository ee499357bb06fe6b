// SPDX-License-Identifier: MIT
/// @file
/// Checks of tensors and numbers before a call computes. Each kind of mistake is detected here, in
/// one place. The time does not depend on the size of a tensor.
#pragma once

#include "heed/core/storage.hpp"
#include "heed/core/views.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <span>

namespace heed::inline HEED_ABI::detail {

/// The largest size of a tensor or buffer: 2^56 − 1 bytes, the size of the largest user address
/// spaces. Products of it with the small constants of the library stay within 64 bits.
inline constexpr Index max_bytes = std::numeric_limits<Index>::max() >> 7;

/// Positions lie in −2^61 … 2^61, so that sums and differences of a few positions stay within 64
/// bits.
inline constexpr Index max_position = std::numeric_limits<Index>::max() / 4;

/// The largest number of layers of a model.
inline constexpr Index max_layers = Index(1) << 20;

// ---- numbers

/// Tests the bits, because -ffast-math may remove a comparison.
template <std::floating_point T>
bool is_finite(T x) {
  using Bits = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;
  const Bits exponent = std::bit_cast<Bits>(std::numeric_limits<T>::infinity());
  return (std::bit_cast<Bits>(x) & exponent) != exponent;
}
template <std::floating_point T>
bool is_nan(T x) {
  using Bits = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;
  const Bits infinity = std::bit_cast<Bits>(std::numeric_limits<T>::infinity());
  return (std::bit_cast<Bits>(x) & ~(Bits(1) << (8 * sizeof(T) - 1))) > infinity;
}

/// @throws ValueError unless least ≤ x ≤ most.
inline void expect_within(const char* what, double x, double least, double most) {
  if (!is_finite(x) || x < least || x > most)
    throw ValueError(what, " is ", x, ", must lie in [", least, ", ", most, "]");
}

/// @throws ValueError unless each number of tokens, one per batch entry, lies in 0 … most.
inline void expect_counts(const char* what, const View<const std::int64_t, 1>& counts, Index most,
                          const char* most_is = "") {
  for (Index b = 0; b < counts.dim(0); ++b)
    if (counts(b) < 0 || counts(b) > most)
      throw ValueError(what, "[", b, "] is ", counts(b), ", must lie in 0 … ", most, most_is);
}

/// @throws ValueError unless the positions [first, first + rows) all lie within the limit.
inline void expect_positions(const char* what, Index first, Index rows) {
  if (first < -max_position || first > max_position - rows)
    throw ValueError(what, " is ", first, " and there are ", rows, " rows: positions lie in ",
                     -max_position, " … ", max_position);
}

/// a · b, or max_bytes + 1 if the product exceeds max_bytes. Neither factor may be negative.
constexpr Index product_of(Index a, Index b) {
  Index product = 0;
  return __builtin_mul_overflow(a, b, &product) || product > max_bytes ? max_bytes + 1 : product;
}
template <class... More>
constexpr Index product_of(Index a, Index b, More... more) {
  return product_of(product_of(a, b), Index(more)...);
}

// ---- tensors

/// The memory that a tensor occupies.
struct Layout {
  const char* what;
  std::uintptr_t data;
  Index number_bytes, alignment;
  std::size_t rank;
  Dims<4> dims, strides;
  std::uintptr_t first, last;  ///< the lowest and the highest byte, unless the tensor is empty

  std::span<const Index> sizes() const { return {dims.data(), rank}; }
  std::span<const Index> steps() const { return {strides.data(), rank}; }
  bool is_empty() const {
    return std::any_of(dims.data(), dims.data() + rank, [](Index n) { return n == 0; });
  }
  /// True if both describe the same numbers at the same addresses.
  bool same_as(const Layout& o) const {
    if (data != o.data || number_bytes != o.number_bytes || rank != o.rank) return false;
    for (std::size_t d = 0; d < rank; ++d)
      if (dims[d] != o.dims[d] || (dims[d] > 1 && strides[d] != o.strides[d])) return false;
    return true;
  }
};

/// Checks one tensor by itself, and sets its first and last byte.
/// @throws ShapeError if a size is negative or the tensor exceeds the address space; ValueError if
///     a tensor that is not empty has null or misaligned data.
inline void check_layout(Layout& x) {
  Index bytes = x.number_bytes;
  for (Index n : x.sizes()) {
    if (n < 0) throw ShapeError(x.what, " is ", x.sizes(), ": no size may be negative");
    bytes = product_of(bytes, std::max<Index>(n, 1));
  }
  if (bytes > max_bytes)
    throw ShapeError(x.what, " is ", x.sizes(), ": that is more than ", max_bytes,
                     " bytes, which no memory holds");
  if (x.is_empty()) return;
  Index below = 0, above = 0;
  for (std::size_t d = 0; d < x.rank; ++d) {
    if (x.dims[d] == 1) continue;
    const bool down = x.strides[d] < 0;
    const Index step = x.strides[d] < -max_bytes ? max_bytes : std::abs(x.strides[d]);
    Index& extent = down ? below : above;
    extent = std::min(extent + product_of(x.number_bytes, x.dims[d] - 1, step), max_bytes + 1);
  }
  const std::uintptr_t most = std::numeric_limits<std::uintptr_t>::max();
  if (below + above + x.number_bytes > max_bytes ||
      (x.data != 0 &&
       (std::uintptr_t(below) > x.data || std::uintptr_t(above + x.number_bytes) > most - x.data)))
    throw ShapeError(x.what, " is ", x.sizes(), " with strides ", x.steps(),
                     ": they reach beyond the address space");
  if (x.data == 0) throw ValueError(x.what, " is ", x.sizes(), ", but its data is null");
  if (x.data % std::uintptr_t(x.alignment) != 0)
    throw ValueError(x.what, " begins ", x.data % std::uintptr_t(x.alignment),
                     " bytes behind a multiple of ", x.alignment, ", the alignment of its numbers");
  x.first = x.data - std::uintptr_t(below);
  x.last = x.data + std::uintptr_t(above + x.number_bytes - 1);
}

template <class T, std::size_t Rank>
Layout layout_of(const char* what, const View<T, Rank>& x) {
  static_assert(Rank <= 4);
  Layout layout;
  layout.what = what, layout.data = reinterpret_cast<std::uintptr_t>(x.data());
  layout.number_bytes = sizeof(T), layout.alignment = alignof(T), layout.rank = Rank;
  for (std::size_t d = 0; d < Rank; ++d) layout.dims[d] = x.dim(d), layout.strides[d] = x.stride(d);
  layout.first = layout.last = 0;
  check_layout(layout);
  return layout;
}

/// The set of sums Σ x_i · step_i with 0 ≤ x_i ≤ most_i: the differences of two addresses.
class AddressSums {
 public:
  /// Adds a term; neither argument may be negative. Terms with equal steps are merged.
  void add(Index step, Index most) {
    if (most == 0 || step == 0) return;
    std::size_t at = 0;
    while (at < count_ && terms_[at].step > step) ++at;
    if (at < count_ && terms_[at].step == step) {
      terms_[at].most += most;
      return;
    }
    for (std::size_t t = count_++; t > at; --t) terms_[t] = terms_[t - 1];
    terms_[at] = {step, most};
  }
  /// True if one of the sums lies in [low, high], and also if the search takes too long. Strides of
  /// a tensor usually nest, and then the search takes a few steps per dimension.
  bool intersects(Index low, Index high) {
    rest_[count_] = 0;
    for (std::size_t t = count_; t-- > 0;)
      rest_[t] = rest_[t + 1] + terms_[t].step * terms_[t].most;
    steps_left_ = 4096;
    return intersects_from(0, low, high);
  }

 private:
  bool intersects_from(std::size_t t, Index low, Index high) {
    if (high < 0 || low > rest_[t]) return false;
    if (low <= 0 || high >= rest_[t] || --steps_left_ < 0) return true;
    const auto& [step, most] = terms_[t];  // exists: without a term t, rest_[t] is 0
    for (Index x = std::min(most, high / step); x >= 0 && low - x * step <= rest_[t + 1]; --x)
      if (intersects_from(t + 1, low - x * step, high - x * step)) return true;
    return false;
  }

  struct Term {
    Index step, most;
  };
  std::array<Term, 8> terms_;  ///< by step, the largest first
  std::array<Index, 9> rest_;  ///< [t] the largest sum of the terms from t on
  std::size_t count_ = 0;
  int steps_left_ = 0;
};

/// True if two numbers of the tensor share a byte.
inline bool overlaps_itself(const Layout& x) {
  if (x.is_empty()) return false;
  // Two indices differ first in dimension d, by at least 1, and by any amount in later dimensions.
  for (std::size_t d = 0; d < x.rank; ++d) {
    if (x.dims[d] == 1) continue;
    const Index step = std::abs(x.strides[d]) * x.number_bytes;
    if (step == 0) return true;
    AddressSums sums;
    sums.add(step, x.dims[d] - 2);
    Index least = step;
    for (std::size_t e = d + 1; e < x.rank; ++e) {
      const Index other = std::abs(x.strides[e]) * x.number_bytes, most = x.dims[e] - 1;
      sums.add(other, 2 * most);
      least -= other * most;
    }
    if (sums.intersects(1 - x.number_bytes - least, x.number_bytes - 1 - least)) return true;
  }
  return false;
}

/// True if the two tensors share a byte.
inline bool overlap(const Layout& a, const Layout& b) {
  if (a.is_empty() || b.is_empty() || a.first > b.last || b.first > a.last) return false;
  // The sums count upwards from the lowest number of a, and downwards from the highest of b.
  AddressSums sums;
  const auto add = [&](const Layout& x) {
    for (std::size_t d = 0; d < x.rank; ++d)
      if (x.dims[d] > 1) sums.add(std::abs(x.strides[d]) * x.number_bytes, x.dims[d] - 1);
  };
  add(a), add(b);
  const Index distance = Index(b.last - std::uintptr_t(b.number_bytes - 1) - a.first);
  return sums.intersects(distance - a.number_bytes + 1, distance + b.number_bytes - 1);
}

/// @throws ShapeError if numbers of a tensor that is written overlap one another.
inline void expect_disjoint(const Layout& to) {
  if (overlaps_itself(to))
    throw ShapeError(to.what, " is ", to.sizes(), " with strides ", to.steps(),
                     ": its own numbers overlap, but each is written");
}
/// @throws ShapeError if a tensor that is written overlaps the other tensor.
inline void expect_disjoint(const Layout& to, const Layout& other) {
  if (overlap(to, other))
    throw ShapeError(to.what, " overlaps ", other.what, ": ", to.what, " is ", to.sizes(),
                     " with strides ", to.steps(), ", ", other.what, " is ", other.sizes(),
                     " with strides ", other.steps(), ", ", Index(other.data - to.data),
                     " bytes from it");
}

/// The tensors of one call; each is checked as it is added. A tensor that is written must not
/// overlap itself or any other tensor of the call. Tensors that are only read may overlap.
class CallTensors {
 public:
  /// @throws ShapeError, ValueError
  template <class T, std::size_t Rank>
  void reads(const char* what, const View<T, Rank>& x) {
    add(layout_of(what, x), false, {});
  }
  /// @param may_alias  names of tensors added before, with any of which this one may be identical.
  /// @throws ShapeError, ValueError
  template <class T, std::size_t Rank>
  void writes(const char* what, const View<T, Rank>& x,
              std::initializer_list<const char*> may_alias = {}) {
    static_assert(!std::is_const_v<T>);
    add(layout_of(what, x), true, may_alias);
  }

 private:
  struct Named {
    Layout layout;
    bool written;
  };

  void add(const Layout& x, bool written, std::initializer_list<const char*> may_alias) {
    if (x.is_empty()) return;
    if (written) expect_disjoint(x);
    for (int i = 0; i < count_; ++i) {
      const Layout& other = named_[std::size_t(i)].layout;
      if (!written && !named_[std::size_t(i)].written) continue;
      const bool allowed = std::any_of(may_alias.begin(), may_alias.end(), [&](const char* name) {
        return std::strcmp(name, other.what) == 0;
      });
      if (allowed && x.same_as(other)) continue;
      if (written)
        expect_disjoint(x, other);
      else
        expect_disjoint(other, x);
    }
    if (count_ == int(named_.size()))
      throw ShapeError("a call names at most ", named_.size(), " tensors; ", x.what,
                       " is one too many");
    named_[std::size_t(count_++)] = {x, written};
  }

  std::array<Named, 64> named_;
  int count_ = 0;
};

/// A stage's check() adds its tensors by these functions. They do nothing if there is no call.
template <class T, std::size_t Rank>
void reads(CallTensors* call, const char* what, const View<T, Rank>& x) {
  if (call) call->reads(what, x);
}
template <class T, std::size_t Rank>
void writes(CallTensors* call, const char* what, const View<T, Rank>& x,
            std::initializer_list<const char*> may_alias = {}) {
  if (call) call->writes(what, x, may_alias);
}

}  // namespace heed::inline HEED_ABI::detail
