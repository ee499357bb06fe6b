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

using heed::Index;

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
      "`… \\| window(128, 0) \\| selective`",
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
}
