// SPDX-License-Identifier: MIT
// Built with -ffast-math, under which a compiler may take x != x for false and x − x for 0. A
// header cannot choose its user's flags, so what it promises about masked keys has to hold here
// too:
//
//   NaN and infinity in a key or value that a row does not see leave the row as it is;
//   a row that sees no key is 0, its log-sum-exp −∞.
//
// Judged by bit patterns, since isnan and isinf are folded away as well.
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <heed/heed.hpp>
#include <type_traits>
#include <vector>

namespace {

using heed::Index;

template <class T>
using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
template <class T>
constexpr Bits<T> infinity = sizeof(T) == 4 ? Bits<T>(0x7f800000u) : Bits<T>(0x7ff0000000000000u);
template <class T>
constexpr Bits<T> sign = Bits<T>(1) << (8 * sizeof(T) - 1);
template <class T>
constexpr Bits<T> quiet_nan = infinity<T> | infinity<T> >> 1;

template <class T>
bool finite(T x) {
  return (std::bit_cast<Bits<T>>(x) & infinity<T>) != infinity<T>;
}
template <class T>
bool zero(T x) {
  return (std::bit_cast<Bits<T>>(x) & ~sign<T>) == 0;
}

int failures = 0;
void expect(bool holds, const char* what, Index tokens, Index dim, Index row) {
  if (holds) return;
  std::printf("%s: tokens %td, dim %td, row %td\n", what, tokens, dim, row);
  ++failures;
}

/// Two runs over keys of which the last row alone sees the last: clean, and with that key spoilt.
template <class T>
void hidden_keys_are_inert(Index tokens, Index dim, Bits<T> poison) {
  const std::array<Index, 4> shape{1, 1, tokens, dim};
  const std::size_t size = std::size_t(tokens * dim);
  std::vector<T> q(size), k(size), v(size), clean(size), spoilt(size);
  for (std::size_t i = 0; i < size; ++i) {
    q[i] = T(std::sin(0.7 * double(i)));
    k[i] = T(std::cos(1.3 * double(i)));
    v[i] = T(std::sin(2.1 * double(i)));
  }
  const auto run = [&](std::vector<T>& out) {
    heed::forward(heed::View<const T, 4>(q.data(), shape), heed::View<const T, 4>(k.data(), shape),
                  heed::View<const T, 4>(v.data(), shape), heed::standard | heed::causal,
                  heed::View<T, 4>(out.data(), shape));
  };
  run(clean);
  for (std::size_t i = size - std::size_t(dim); i < size; ++i)
    k[i] = v[i] = std::bit_cast<T>(poison);
  run(spoilt);
  for (Index row = 0; row + 1 < tokens; ++row) {
    bool same = true;
    for (std::size_t i = std::size_t(row * dim); i < std::size_t((row + 1) * dim); ++i)
      same = same && finite(clean[i]) &&
             std::bit_cast<Bits<T>>(clean[i]) == std::bit_cast<Bits<T>>(spoilt[i]);
    expect(same, "a masked key changes the result", tokens, dim, row);
  }
}

/// More rows than keys, aligned at the end: the first rows come before every key.
template <class T>
void rows_without_keys_are_zero(Index tokens, Index dim) {
  const Index dead = tokens / 2, keys = tokens - dead;
  const std::array<Index, 4> rows_shape{1, 1, tokens, dim}, keys_shape{1, 1, keys, dim};
  std::vector<T> q(std::size_t(tokens * dim), T(1)), k(std::size_t(keys * dim), T(1)),
      v(std::size_t(keys * dim), T(2)), out(q.size(), T(7)), lse(std::size_t(tokens), T(7));
  heed::forward(
      heed::View<const T, 4>(q.data(), rows_shape), heed::View<const T, 4>(k.data(), keys_shape),
      heed::View<const T, 4>(v.data(), keys_shape), heed::standard | heed::causal_bottom_right,
      heed::View<T, 4>(out.data(), rows_shape), heed::View<T, 3>(lse.data(), {1, 1, tokens}));
  for (Index row = 0; row < tokens; ++row) {
    bool as_promised = true;
    for (std::size_t i = std::size_t(row * dim); i < std::size_t((row + 1) * dim); ++i)
      as_promised = as_promised && (row < dead ? zero(out[i]) : std::abs(out[i] - T(2)) < T(1e-5));
    expect(as_promised, row < dead ? "a row without keys is not 0" : "a mean of twos is not 2",
           tokens, dim, row);
    const T sum = lse[std::size_t(row)];
    expect(row < dead ? std::bit_cast<Bits<T>>(sum) == (infinity<T> | sign<T>) : finite(sum),
           "log-sum-exp", tokens, dim, row);
  }
}

template <class T>
void all() {
  for (const Index tokens : {1, 2, 7, 33, 130})
    for (const Index dim : {1, 8, 20, 64}) {
      for (const Bits<T> poison : {quiet_nan<T>, infinity<T>, infinity<T> | sign<T>})
        hidden_keys_are_inert<T>(tokens, dim, poison);
      rows_without_keys_are_zero<T>(tokens, dim);
    }
}

}  // namespace

int main() {
  all<float>();
  all<double>();
  return failures == 0 ? 0 : 1;
}
