// SPDX-License-Identifier: MIT
// How far from the papers' formulas in double is each variant? Prints the README's table:
//
//     build/release/bench/accuracy
//
// Error is the largest over all numbers of out, relative to max(1, the largest of them): 4 heads on
// 2 key heads of 64, 600 tokens, standard normal q, k and v, of which double and float see the
// same.
#include "reference/selective.hpp"
#include "support/random.hpp"
#include "support/tensors.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <heed/heed.hpp>

namespace {

using heed::Bfloat16, heed::Index;

constexpr Index heads = 4, key_heads = 2, tokens = 600, dim = 64;

double error(const reference::Array& expected, const double* got) {
  double worst = 0, largest = 1;
  for (Index i = 0; i < expected.size(); ++i) {
    const double wanted = expected.values[std::size_t(i)];
    worst = std::max(worst, std::abs(got[i] - wanted));
    largest = std::max(largest, std::abs(wanted));
  }
  return worst / largest;
}

/// The inputs, as float numbers in either type.
template <class T>
struct Inputs {
  heed::test::Tensor<T> q, k, v, bias;
  heed::test::Tensor<T, 3> tau_q, tau_v;

  // Assigned, not returned from a function: an Eigen expression holds references.
  Inputs() {
    q = heed::test::normal<float>(1, 1, heads, tokens, dim).cast<T>();
    k = heed::test::normal<float>(2, 1, key_heads, tokens, dim).cast<T>();
    v = heed::test::normal<float>(3, 1, key_heads, tokens, dim).cast<T>();
    bias = heed::test::normal<float>(4, 1, 1, tokens, tokens).cast<T>();
    tau_q = heed::test::normal<float>(5, 1, heads, tokens).cast<T>();
    tau_v = heed::test::normal<float>(6, 1, key_heads, tokens).cast<T>();
  }
};

/// The error of variant(inputs) in one type.
template <class T, class Variant>
double error_of(const Variant& variant, const reference::Array& expected) {
  const Inputs<T> in;
  heed::test::Tensor<T> out(1, heads, tokens, dim);
  heed::forward(in.q, in.k, in.v, variant(in), out);
  return error(expected, heed::test::array(out).values.data());
}

/// A row of the table: `variant` names the stages for either type, `rules` says the same to the
/// oracle.
template <class Variant>
void row(const char* name, const Variant& variant,
         const std::function<void(reference::Rules&, const Inputs<double>&)>& set,
         bool selects = false) {
  const Inputs<double> in;
  reference::Rules rules;
  rules.visible = reference::causal();
  set(rules, in);
  const reference::Array q = heed::test::array(in.q), k = heed::test::array(in.k),
                         v = heed::test::array(in.v);
  const reference::Array expected = selects ? reference::selective_attention(q, k, v, rules).out
                                            : reference::attention(q, k, v, rules).out;
  std::printf("| %s | %.1e | %.1e |\n", name, error_of<float>(variant, expected),
              error_of<double>(variant, expected));
}

/// A tensor in numbers that have scales.
template <class S>
struct Scaled {
  heed::test::Tensor<S> numbers{1, key_heads, tokens, heed::simd::units<S>(dim)};
  heed::test::Tensor<float, heed::detail::scale_rank<S>> scale;

  explicit Scaled(const heed::test::Tensor<float>& x) {
    if constexpr (heed::simd::has_groups<S>)
      scale.resize(1, key_heads, tokens, heed::simd::scales<S>(dim));
    else
      scale.resize(1, key_heads, tokens);
    heed::quantize(x, numbers, scale);
  }
  auto argument() const { return heed::Quantized<float, S>{numbers, scale}; }
};

template <class S>
heed::test::Tensor<S> rounded(const heed::test::Tensor<float>& x) {
  heed::test::Tensor<S> numbers(x.dimensions());
  for (Index i = 0; i < x.size(); ++i) numbers.data()[i] = S(x.data()[i]);
  return numbers;
}

/// Keys and values stored as S, through forward() and, token by token, through a buffer that
/// evicts nothing: the errors against double, computed from the numbers before rounding.
template <class S>
void stored_row(const char* name) {
  const Inputs<float> in;
  const reference::Array q = heed::test::array(in.q), k = heed::test::array(in.k),
                         v = heed::test::array(in.v);
  reference::Rules rules;
  rules.visible = reference::causal();
  const reference::Array causal = reference::attention(q, k, v, rules).out,
                         selective = reference::selective_attention(q, k, v, rules).out;
  heed::test::Tensor<float> out(1, heads, tokens, dim);
  const auto off = [&](const reference::Array& expected) {
    return error(expected, heed::test::array(out).values.data());
  };
  const auto attend = [&](const auto& queries, const auto& keys, const auto& values,
                          const heed::Options& options = {}) {
    const auto variant = heed::standard | heed::causal;
    heed::forward(queries, keys, values, variant, out, options);
    std::printf(" %.1e |", off(causal));
    heed::forward(queries, keys, values, variant | heed::selective, out, options);
    std::printf(" %.1e |", off(selective));
  };
  std::printf("| %s |", name);
  if constexpr (!heed::DirectStorageOf<S, float>) {
    const Scaled<S> keys(in.k), values(in.v);
    attend(in.q, keys.argument(), values.argument());
  } else {
    attend(in.q, rounded<S>(in.k), rounded<S>(in.v));
  }
  heed::KvBuffer<float, S> buffer({1, heads, key_heads, dim, dim}, {});
  buffer.step(in.q, in.k, in.v, heed::standard, out);
  std::printf(" %.1e |\n", off(selective));
  if constexpr (sizeof(S) == 2) {
    const auto all = [&](const char* how, const heed::Options& options) {
      std::printf("| %s, q too%s |", name, how);
      attend(rounded<S>(in.q), rounded<S>(in.k), rounded<S>(in.v), options);
      std::puts(" |");
    };
    all(std::is_same_v<S, Eigen::bfloat16> ? ", widened" : "", {.bfloat16 = Bfloat16::widened});
    if (std::is_same_v<S, Eigen::half>) return;
    for (const auto& [how, by] :
         {std::pair(", in pairs", Bfloat16::pairs), std::pair(", in tiles", Bfloat16::tiles)})
      if (heed::detail::available(by) == by) all(how, {.bfloat16 = by});
  }
}

}  // namespace

int main() {
  using namespace heed;
  const auto nothing = [](reference::Rules&, const Inputs<double>&) {};
  std::puts("| variant | float | double |\n| --- | --- | --- |");
  row(
      "`standard \\| causal`", [](const auto&) { return standard | causal; }, nothing);
  row(
      "`standard \\| causal \\| selective`",
      [](const auto&) { return standard | causal | selective; }, nothing, true);
  row(
      "`standard \\| causal \\| window(128, 0) \\| selective`",
      [](const auto&) { return standard | causal | window(128, 0) | selective; },
      [](reference::Rules& r, const Inputs<double>&) {
        r.visible = reference::causal() && reference::window(128, 0);
      },
      true);
  row(
      "`standard \\| softcap(20) \\| causal`",
      [](const auto&) { return standard | softcap(20) | causal; },
      [](reference::Rules& r, const Inputs<double>&) { r.softcap = 20; });
  row(
      "`standard \\| bias(x) \\| causal`",
      [](const auto& in) { return standard | bias(in.bias) | causal; },
      [](reference::Rules& r, const Inputs<double>& in) { r.bias = heed::test::array(in.bias); });
  row(
      "`query_temperature(τ) \\| value_temperature(τ) \\| standard \\| causal`",
      [](const auto& in) {
        return query_temperature(in.tau_q) | value_temperature(in.tau_v) | standard | causal;
      },
      [](reference::Rules& r, const Inputs<double>& in) {
        r.tau_q = heed::test::array(in.tau_q);
        r.tau_v = heed::test::array(in.tau_v);
      });
  std::puts(
      "\n| k and v stored in | `standard \\| causal` | `… \\| selective` | `KvBuffer` |\n"
      "| --- | --- | --- | --- |");
  stored_row<float>("float");
  stored_row<Eigen::half>("float16");
  stored_row<Eigen::bfloat16>("bfloat16");
  stored_row<std::int8_t>("int8, a scale a token");
  stored_row<Int4Pair>("int4, a scale for 32 numbers");
  stored_row<Fp8E4M3>("fp8 (E4M3), a scale a token");
}
