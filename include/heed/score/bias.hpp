// SPDX-License-Identifier: MIT
/// @file
/// Additive bias.
#pragma once

#include "heed/score/broadcast.hpp"
#include "heed/simd/pack.hpp"

namespace heed::inline HEED_ABI {

/// s(i, j) += bias[b, h, i, j]. Dimensions of size 1 broadcast. −∞ masks a key; a finite number,
/// even −max, only makes it unlikely.
///
/// @throws ShapeError if the bias does not broadcast to [B, H, Nq, Nk].
/// @note Read once per visited pair. Tiles that are −∞ everywhere are skipped.
template <class T>
struct Bias : StageOf<Rank::bias> {
  View<const T, 4> values;
  View<T, 4> gradient{};  ///< of the dimensions of the bias
  /// Sums of this thread, of the same dimensions, if the gradient sums over rows or keys. In
  /// double: a float would lose small terms.
  View<double, 4> sums{};
  View<T, 4> wide_gradient{};  ///< gradient and sums, broadcast
  View<double, 4> wide_sums{};
  bool shared = false;  ///< does the gradient sum over heads or batch entries?

  /// Where backward() writes ∂L/∂bias, summed over the dimensions that broadcast. `to` has the
  /// dimensions of the bias and is overwritten.
  Bias grad(std::type_identity_t<View<T, 4>> to) const {
    Bias b = *this;
    b.gradient = to;
    return b;
  }

  template <class U>
  Bias bind(const Problem& p, Arena& arena) const {
    static_assert(std::is_same_v<T, U>, "heed: the bias must have the number type of out");
    Bias b = *this;
    b.values = detail::broadcast("bias", values, p);
    if (gradient) {
      b.wide_gradient = detail::broadcast("bias", gradient, p);
      b.shared = (p.batch > 1 && gradient.dim(0) == 1) || (p.heads > 1 && gradient.dim(1) == 1);
      if (gradient.dim(2) == 1 || gradient.dim(3) == 1) {
        b.sums = {arena.take<double>(gradient.size()), gradient.dims()};
        b.wide_sums = detail::broadcast("bias", b.sums, p);
        if (!arena.measuring()) std::fill_n(b.sums.data(), gradient.size(), 0.0);
      }
    }
    return b;
  }
  void check(const Problem& p) const {
    detail::broadcast("bias", values, p);
    detail::reads(p.tensors, "bias", values);
    if (!gradient) return;
    expect_dims("bias' gradient", gradient.dims(), values.dims(), "the dimensions of the bias");
    if (p.backward) detail::writes(p.tensors, "bias' gradient", gradient);
  }

  /// Also brings the tile into cache, which score() reads next.
  BlockMask block_mask(const TileRange& block) const {
    const T* const first = detail::row_at(values, block.batch, block.head, block.row, block.key);
    const Index rows = values.stride(2) == 0 ? 1 : block.rows,
                keys = values.stride(3) == 0 ? 1 : block.keys;
    if ((values.stride(3) == 1 || keys == 1) &&
        simd::all_finite(first, values.stride(2), rows, keys))
      return BlockMask::full;
    Index seen = 0;
    for (Index r = 0; r < rows; ++r)
      for (Index j = 0; j < keys; ++j)
        seen += !is_minus_infinity(first[r * values.stride(2) + j * values.stride(3)]);
    return seen == 0             ? BlockMask::empty
           : seen == rows * keys ? BlockMask::full
                                 : BlockMask::partial;
  }

  HEED_INLINE Batch<T> score(const Batch<T>& s, const Lanes<T>& at) const {
    const T* row = detail::row_at(values, at.batch, at.head, at.row, at.key);
    Batch<T> x;
    if (values.stride(3) == 1) {
      x = simd::load_first(row, at.keys, T(0));
    } else {
      T lanes[std::size_t(simd::width<T>)] = {};
      for (Index j = 0; j < at.keys; ++j) lanes[j] = row[j * values.stride(3)];
      x = simd::load(lanes);
    }
    // A finite bias must not lower a score to `masked`, and neither may several: the sum is clamped
    // at `least`, but a score that is lower already, as it is masked, stays. The operands of max
    // are in the order that keeps NaN.
    const Batch<T> low(std::numeric_limits<T>::lowest() / 4),
        least(std::numeric_limits<T>::lowest() / 20 * 9);
    const Batch<T> sum = simd::fma(simd::max(low, x), Batch<T>(simd::log2e<T>), s);
    return simd::where_minus_infinity(x, masked<T>, simd::max(simd::min(s, least), sum));
  }

  bool shares_gradients() const { return shared; }
  bool shares_gradients_over_keys() const { return gradient && gradient.dim(3) == 1; }
  void clear_gradients() {
    for (Index b = 0; b < gradient.dim(0); ++b)
      for (Index h = 0; h < gradient.dim(1); ++h)
        for (Index i = 0; i < gradient.dim(2); ++i)
          for (Index j = 0; j < gradient.dim(3); ++j) gradient(b, h, i, j) = T(0);
  }
  HEED_INLINE Batch<T> grad_score(const Batch<T>& grad, const Batch<T>&, const Lanes<T>& at) {
    if (!gradient) return grad;
    T lanes[std::size_t(simd::width<T>)];
    grad.store_unaligned(lanes);
    const auto gather = [&](const auto& to) {
      auto* row = detail::row_at(to, at.batch, at.head, at.row, at.key);
      for (Index j = 0; j < at.keys && j < simd::width<T>; ++j) row[j * to.stride(3)] += lanes[j];
    };
    if (sums)
      gather(wide_sums);
    else
      gather(wide_gradient);
    return grad;
  }
  /// Adds the sums of this thread for the finished key block to the gradient.
  void end_gradients(Index key, Index keys) {
    if (!sums) return;
    const bool per_key = sums.dim(3) != 1;
    for (Index b = 0; b < sums.dim(0); ++b)
      for (Index h = 0; h < sums.dim(1); ++h)
        for (Index i = 0; i < sums.dim(2); ++i)
          for (Index j = per_key ? key : 0; j < (per_key ? key + keys : 1); ++j)
            if (double& sum = sums(b, h, i, j); sum != 0) gradient(b, h, i, j) += T(sum), sum = 0;
  }

 private:
  static bool is_minus_infinity(T x) {
    return std::bit_cast<simd::Int<T>>(x) ==
           std::bit_cast<simd::Int<T>>(-std::numeric_limits<T>::infinity());
  }
};

/// Adds values[b, h, i, j] to natural scores; −∞ masks. [B, H, Nq, Nk], sizes of 1 broadcast.
/// ShapeError for other shapes.
template <TensorLike<4> X>
auto bias(X&& values) {
  using T = ScalarOf<X>;
  return Bias<T>{{}, View<const T, 4>(std::forward<X>(values))};
}

}  // namespace heed::inline HEED_ABI
