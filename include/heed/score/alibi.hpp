// SPDX-License-Identifier: MIT
/// @file
/// ALiBi: attention with linear biases.
#pragma once

#include "heed/score/stage.hpp"

namespace heed::inline HEED_ABI {

/// The paper's slope of head h of H: 2^(−8 (h + 1) / H) if H is a power of two. Otherwise the
/// slopes of the next lower power of two, then every other slope of the next higher one.
/// arXiv:2108.12409
inline double alibi_slope(Index head, Index heads) {
  const Index power = Index(std::bit_floor(std::size_t(heads)));
  if (head < power) return std::exp2(-8.0 * double(head + 1) / double(power));
  return std::exp2(-4.0 * (2 * double(head - power) + 1) / double(power));
}

/// s(i, j) += slope_h · (j − p), where p is the position of row i: more distant keys score lower.
///
/// @throws ShapeError if there is not one slope per head.
/// @throws ValueError if a slope is beyond ±1e18; within, no distance overflows.
template <class T = void>
struct Alibi : StageOf<Rank::bias> {
  static constexpr Reads reads = Reads::distance;
  static constexpr bool never_masks = true;

  View<const T, 1> slopes;
  View<T, 1> gradient{};
  double* sums = nullptr;  ///< [H] the gradient in double, as it sums over all pairs

  /// Where backward() writes ∂L/∂slope_h = Σ ∂L/∂s(i, j) · (j − p), [H]; overwritten.
  Alibi grad(std::type_identity_t<View<T, 1>> to) const { return {{}, slopes, to, nullptr}; }

  template <class U>
  Alibi bind(const Problem& p, Arena& arena) const {
    static_assert(std::is_same_v<T, U>, "heed: slopes must have the number type of out");
    Alibi a = *this;
    if (gradient) a.sums = arena.take<double>(p.heads);
    return a;
  }
  void check(const Problem& p) const {
    expect_dims("alibi", slopes.dims(), {p.heads}, "one slope per head");
    detail::reads(p.tensors, "alibi", slopes);
    for (Index h = 0; h < p.heads; ++h)
      detail::expect_within("a slope of alibi", double(slopes(h)), -1e18, 1e18);
    if (!gradient) return;
    expect_dims("alibi's gradient", gradient.dims(), {p.heads}, "one slope per head");
    if (p.backward) detail::writes(p.tensors, "alibi's gradient", gradient);
  }
  HEED_INLINE Batch<T> score(const Batch<T>& s, const Lanes<T>& at) const {
    const T slope = slopes.data()[at.head * slopes.stride(0)] * simd::log2e<T>;
    return simd::fma(Batch<T>(slope), at.distance(), s);
  }

  bool shares_gradients() const { return bool(gradient); }
  void clear_gradients() {
    for (Index h = 0; h < gradient.dim(0); ++h) sums[h] = 0, gradient(h) = T(0);
  }
  void end_gradients(Index, Index) {  // one thread: shares_gradients()
    for (Index h = 0; h < gradient.dim(0); ++h) gradient(h) = T(sums[h]);
  }
  HEED_INLINE Batch<T> grad_score(const Batch<T>& grad, const Batch<T>&, const Lanes<T>& at) {
    if (gradient) sums[at.head] += double(simd::reduce_add(grad * at.distance()));
    return grad;
  }
};

/// ALiBi with the paper's slopes.
template <>
struct Alibi<void> : StageOf<Rank::bias> {
  template <class T>
  struct Bound : StageOf<Rank::bias> {
    static constexpr Reads reads = Reads::distance;
    static constexpr bool adds_to_score = true;

    const T* slopes;  ///< per head, in log2 units

    HEED_INLINE Batch<T> score(const Batch<T>& s, const Lanes<T>& at) const {
      return simd::fma(Batch<T>(slopes[at.head]), at.distance(), s);
    }
  };
  template <class T>
  Bound<T> bind(const Problem& p, Arena& arena) const {
    T* slopes = arena.take<T>(p.heads);
    if (!arena.measuring())
      for (Index h = 0; h < p.heads; ++h) slopes[h] = T(alibi_slope(h, p.heads)) * simd::log2e<T>;
    return {{}, slopes};
  }
};

/// Adds alibi_slope(h, H) · (j − p) to the score of key j for a query at position p.
inline Alibi<void> alibi() {
  return {};
}
/// Adds slopes[h] · (j − p) to scores, for slopes that are learned, say; `slopes` is [H].
/// ShapeError for other shapes, ValueError for slopes beyond ±1e18.
template <TensorLike<1> X>
auto alibi(X&& slopes) {
  using T = ScalarOf<X>;
  return Alibi<T>{{}, View<const T, 1>(std::forward<X>(slopes)), {}, nullptr};
}

}  // namespace heed::inline HEED_ABI
