// SPDX-License-Identifier: MIT
/// @file
/// The angle by which each pair of a head's elements rotates from one position to the next.
#pragma once

#include "heed/core/views.hpp"
#include "heed/simd/pack.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <variant>

namespace heed::inline HEED_ABI {

namespace detail {

/// By bits: -ffast-math folds comparisons away.
inline bool rotary_finite(double x) noexcept {
  return simd::all_finite(&x, 0, 1, 1);
}

inline void expect_positive(const char* what, double x) {
  if (!rotary_finite(x) || x <= 0)
    throw ValueError("rotary: ", what, " is ", x, ", must be finite and above 0");
}

/// out[i] = base^(−2 i / dims).
inline void powers_of_base(double base, Index dims, double* out) {
  for (Index i = 0; i < dims / 2; ++i) out[i] = std::pow(base, -2.0 * double(i) / double(dims));
}

/// base · stretch^(d / (d − 2)): the last pair then rotates `stretch` times slower, the first as
/// fast as before.
inline double stretched_base(const char* scaling, double base, double stretch, Index dims) {
  if (dims <= 2)
    throw ValueError("rotary: ", scaling, " is defined for more than 2 numbers that turn, not for ",
                     dims);
  const double stretched = base * std::pow(stretch, double(dims) / double(dims - 2));
  expect_positive("the stretched base", stretched);
  return stretched;
}

}  // namespace detail

/// No scaling, as in the paper: θ_i = base^(−2 i / d). arXiv:2104.09864
struct UnscaledRotary {
  void write(double base, Index dims, double* out) const {
    detail::powers_of_base(base, dims, out);
  }
  double attention() const { return 1; }
};

/// Position interpolation: θ_i / factor. arXiv:2306.15595
struct LinearRotary {
  double factor = 1;  ///< Context length over the length trained on; above 0.

  void write(double base, Index dims, double* out) const {
    detail::expect_positive("the factor of linear scaling", factor);
    detail::powers_of_base(base, dims, out);
    for (Index i = 0; i < dims / 2; ++i) out[i] /= factor;
  }
  double attention() const { return 1; }
};

/// NTK-aware scaling: θ_i of the base b · factor^(d / (d − 2)). Fast pairs rotate as before, slow
/// ones `factor` times slower (equation 16 of arXiv:2309.00071). d is above 2.
struct NtkRotary {
  double factor = 1;  ///< Above 0.

  void write(double base, Index dims, double* out) const {
    detail::expect_positive("the factor of NTK-aware scaling", factor);
    detail::powers_of_base(detail::stretched_base("NTK-aware scaling", base, factor, dims), dims,
                           out);
  }
  double attention() const { return 1; }
};

/// Dynamic NTK scaling, as in Transformers: θ_i of the base
/// b · (factor · L / C − (factor − 1))^(d / (d − 2)). C is the context length trained on, L the
/// number of tokens now, at least C: nothing changes until a text is longer than C. d is above 2.
/// Keys that were rotated for another L do not fit: rotate them anew when L changes.
struct DynamicNtkRotary {
  double factor = 1;           ///< Above 0.
  Index original_context = 0;  ///< C, above 0.
  Index tokens = 0;            ///< L, not negative.

  void write(double base, Index dims, double* out) const {
    detail::expect_positive("the factor of dynamic NTK scaling", factor);
    detail::expect_positive("the original context of dynamic NTK scaling",
                            double(original_context));
    if (tokens < 0) throw ValueError("rotary: dynamic NTK scaling is told of ", tokens, " tokens");
    const double longer = double(std::max(tokens, original_context)) / double(original_context);
    const double stretch = factor * longer - (factor - 1);
    detail::powers_of_base(detail::stretched_base("dynamic NTK scaling", base, stretch, dims), dims,
                           out);
  }
  double attention() const { return 1; }
};

/// YaRN, arXiv:2309.00071, as its authors and Transformers compute it:
///
///     (1 − γ_i) θ_i + γ_i θ_i / factor,   γ_i = clamp((i − low) / (high − low), 0, 1),
///     low = max(⌊pair(beta_fast)⌋, 0),   high = min(⌈pair(beta_slow)⌉, d − 1),
///     pair(β) = d ln(C / (2π β)) / (2 ln base)
///
/// Pairs that rotate more than beta_fast times within C, the context length trained on, stay as
/// they are. Pairs that rotate less than beta_slow times are interpolated. If high ≤ low, high is
/// low + 0.001. Cosines and sines are multiplied by the attention factor, and so scores by its
/// square. The base is above 1.
struct YarnRotary {
  double factor = 1;           ///< Above 0.
  Index original_context = 0;  ///< C, above 0.
  double beta_fast = 32;       ///< Above beta_slow.
  double beta_slow = 1;        ///< Above 0.
  /// Default: m(mscale) / m(mscale_all_dim) if both are given, else m(1), where m(x) = 0.1 x
  /// ln(factor) + 1, and 1 if factor ≤ 1.
  std::optional<double> attention_factor{};
  std::optional<double> mscale{}, mscale_all_dim{};  ///< DeepSeek's; not negative; both or neither.
  bool truncate = true;  ///< Round low down and high up; gpt-oss does not.

  void write(double base, Index dims, double* out) const {
    check(base);
    // Index of the pair that rotates `turns` times within C; fractional between two pairs.
    const auto pair = [&](double turns) {
      return double(dims) * std::log(double(original_context) / (turns * two_pi)) /
             (2 * std::log(base));
    };
    double low = pair(beta_fast), high = pair(beta_slow);
    if (truncate) low = std::floor(low), high = std::ceil(high);
    low = std::max(low, 0.), high = std::min(high, double(dims - 1));
    if (high <= low) high = low + 0.001;
    detail::powers_of_base(base, dims, out);
    for (Index i = 0; i < dims / 2; ++i) {
      const double slow = std::clamp((double(i) - low) / (high - low), 0., 1.);
      out[i] = (1 - slow) * out[i] + slow * out[i] / factor;
    }
  }
  double attention() const {
    if (attention_factor) return *attention_factor;
    const auto m = [&](double x) { return factor <= 1 ? 1 : 0.1 * x * std::log(factor) + 1; };
    return mscale ? m(*mscale) / m(*mscale_all_dim) : m(1);
  }

 private:
  static constexpr double two_pi = 6.283185307179586476925;

  void check(double base) const {
    detail::expect_positive("YaRN's factor", factor);
    detail::expect_positive("YaRN's original context", double(original_context));
    detail::expect_positive("YaRN's beta_fast", beta_fast);
    detail::expect_positive("YaRN's beta_slow", beta_slow);
    if (beta_fast <= beta_slow)
      throw ValueError("rotary: YaRN's beta_fast is ", beta_fast, ", must be above beta_slow, ",
                       beta_slow);
    if (base <= 1) throw ValueError("rotary: base is ", base, ", must be above 1 for YaRN");
    if (mscale.has_value() != mscale_all_dim.has_value())
      throw ValueError("rotary: YaRN wants both mscale and mscale_all_dim, or none");
    for (const std::optional<double>& x : {mscale, mscale_all_dim})
      if (x && (!detail::rotary_finite(*x) || *x < 0))
        throw ValueError("rotary: YaRN's mscale is ", *x, ", must be finite and not negative");
  }
};

/// Llama 3.1's scaling, by the wavelength λ_i = 2π / θ_i of a pair; C is the context length trained
/// on:
///
///     θ_i                                   λ_i < C / high_frequency
///     θ_i / factor                          λ_i > C / low_frequency
///     (1 − s) θ_i / factor + s θ_i          between,
///     s = (C / λ_i − low_frequency) / (high_frequency − low_frequency)
///
/// The Llama 3 Herd of Models, arXiv:2407.21783. The formula is that of its published code, the
/// defaults are those of Llama 3.1.
struct Llama3Rotary {
  double factor = 8;          ///< Above 0.
  double low_frequency = 1;   ///< low_freq_factor, above 0.
  double high_frequency = 4;  ///< high_freq_factor, above low_frequency.
  Index original_context = 8192;

  void write(double base, Index dims, double* out) const {
    detail::expect_positive("Llama 3's factor", factor);
    detail::expect_positive("Llama 3's low_frequency", low_frequency);
    detail::expect_positive("Llama 3's high_frequency", high_frequency);
    detail::expect_positive("Llama 3's original context", double(original_context));
    if (high_frequency <= low_frequency)
      throw ValueError("rotary: Llama 3's high_frequency is ", high_frequency,
                       ", must be above low_frequency, ", low_frequency);
    detail::powers_of_base(base, dims, out);
    for (Index i = 0; i < dims / 2; ++i) {
      const double turns = double(original_context) * out[i] / 6.283185307179586476925;  // C / λ_i
      const double kept =
          std::clamp((turns - low_frequency) / (high_frequency - low_frequency), 0., 1.);
      out[i] = (1 - kept) * out[i] / factor + kept * out[i];
    }
  }
  double attention() const { return 1; }
};

/// The caller's own frequencies, from any formula: LongRoPE's, or the inv_freq of a checkpoint. The
/// base is not used.
struct GivenRotary {
  View<const double, 1> frequencies{};  ///< [d / 2], finite.
  double attention_factor = 1;          ///< Cosines and sines are multiplied by it; above 0.

  void write(double /*base*/, Index dims, double* out) const {
    if (frequencies.dim(0) != dims / 2)
      throw ShapeError("rotary: frequencies is ", frequencies.dims(), ", should be ",
                       Dims<1>{dims / 2}, ": one per pair that turns");
    if (dims > 0 && frequencies.data() == nullptr)
      throw ValueError("rotary: frequencies is null, should be ", dims / 2, " numbers");
    for (Index i = 0; i < dims / 2; ++i) out[i] = frequencies(i);
  }
  double attention() const { return attention_factor; }
};

/// How the paper's frequencies are changed for contexts longer than the one trained on.
using RotaryScaling = std::variant<UnscaledRotary, LinearRotary, NtkRotary, DynamicNtkRotary,
                                   YarnRotary, Llama3Rotary, GivenRotary>;

/// The angle by which each pair rotates from one position to the next (often called inverse
/// frequency), and a factor for all cosines and sines.
struct RotaryFrequencies {
  double base = 10000;      ///< Finite, above 0.
  double scale = 1;         ///< Every position is multiplied by it; finite.
  RotaryScaling scaling{};  ///< Applied to base^(−2 i / d).

  /// out[i] = scale · scaled(base^(−2 i / dims)) for i < dims / 2.
  ///
  /// @throws ValueError if a parameter is out of its domain, or if a frequency is so large that an
  /// angle would overflow; ShapeError if the caller's own frequencies are not dims / 2.
  void write(Index dims, double* out) const {
    detail::expect_positive("base", base);
    if (!detail::rotary_finite(scale))
      throw ValueError("rotary: scale is ", scale, ", must be finite");
    std::visit([&](const auto& way) { way.write(base, dims, out); }, scaling);
    for (Index i = 0; i < dims / 2; ++i) {
      out[i] *= scale;
      // 2^53 is the largest position, see PositionRange.
      if (!detail::rotary_finite(out[i] * 0x1p53))
        throw ValueError("rotary: the frequency of pair ", i, " is ", out[i],
                         ", angles would not be finite");
    }
  }

  /// The factor of all cosines and sines.
  /// @throws ValueError if it is not finite and above 0.
  double attention_factor() const {
    const double factor = std::visit([](const auto& way) { return way.attention(); }, scaling);
    detail::expect_positive("the attention factor", factor);
    return factor;
  }
};

}  // namespace heed::inline HEED_ABI
