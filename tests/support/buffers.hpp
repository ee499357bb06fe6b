// SPDX-License-Identifier: MIT
/// @file
/// Calls that go through a KvBuffer, and the same ones of the oracle. What takes long to
/// compile is compiled once, in buffers_float.cpp and buffers_double.cpp.
#pragma once

#include "heed/kv/kv_buffer.hpp"
#include "heed/score/standard.hpp"
#include "reference/pruning.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <ostream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace heed::test {

/// The buffer such inputs go through.
template <class T>
KvBuffer<T> buffer_for(const Inputs<T>& in, const KvOptions& options) {
  return {{.batch = in.q.dimension(0),
           .heads = in.q.dimension(1),
           .key_heads = in.k.dimension(1),
           .dim = in.q.dimension(3),
           .value_dim = in.v.dimension(3)},
          options};
}

template <class T>
struct Buffered : Outputs<T> {
  Tensor<std::int64_t, 2> evict_row;  ///< N if token j was not evicted
};

/// Where the answers to N tokens go. What a step leaves unwritten is NaN.
template <class T>
Buffered<T> answers_to(const Inputs<T>& in) {
  const Index B = in.q.dimension(0), H = in.q.dimension(1), N = in.q.dimension(2);
  Buffered<T> to{{Tensor<T>(B, H, N, in.v.dimension(3)), Tensor<T, 3>(B, H, N), {}},
                 Tensor<std::int64_t, 2>(B, N)};
  to.out.setConstant(std::numeric_limits<T>::quiet_NaN());
  to.lse.setConstant(std::numeric_limits<T>::quiet_NaN());
  to.evict_row.setConstant(N);
  return to;
}

/// All tokens of `in` in one step, with nothing between scores and softmax but 1/√D.
template <class T>
WorkStats standard_step(KvBuffer<T>& buffer, const Inputs<T>& in, Tensor<T>& out,
                        const typename KvBuffer<T>::Step& options = {});

/// The same of chosen sequences of a cache.
template <class T>
WorkStats standard_step(KvCache<T>& cache, typename KvCache<T>::Sequences sequences,
                        const Inputs<T>& in, Tensor<T>& out, const KvStep<T>& options = {});

/// Rows of several sequences, one after the other.
template <class T>
struct Packed {
  Tensor<T, 3> q, k, v;  // [N, heads, dim]
  std::vector<std::int64_t> starts;
};
template <class T>
WorkStats standard_step(KvCache<T>& cache, typename KvCache<T>::Sequences sequences,
                        const Packed<T>& in, Tensor<T, 3>& out, const KvStep<T>& options = {});

/// The same with keys and values of another type: of 16 bits, or Quantized.
template <class T, class K>
WorkStats standard_step_of(KvCache<T>& cache, typename KvCache<T>::Sequences sequences,
                           const Tensor<T>& q, const K& k, const K& v, Tensor<T>& out);

/// Tokens [from, to) of the inputs; the buffer must hold those before. Answers go to their place in
/// `answers`. take(part, out, options) makes the step.
template <class T, class Take>
void step_by(const Take& take, const Inputs<T>& in, Index from, Index to, Buffered<T>& answers,
             const Executor& executor) {
  const Inputs<T> part{slice(in.q, from, to), slice(in.k, from, to), slice(in.v, from, to)};
  Buffered<T> got = answers_to(part);
  answers.visited +=
      take(part, got.out, {.lse = got.lse, .evict_row = answers.evict_row, .executor = executor});
  const Eigen::array<Index, 4> start{0, 0, from, 0};
  const Eigen::array<Index, 3> start_of_lse{0, 0, from};
  answers.out.slice(start, got.out.dimensions()) = got.out;
  answers.lse.slice(start_of_lse, got.lse.dimensions()) = got.lse;
}

/// With variant_of(from, to), the variant for these rows.
template <class T, class VariantOf>
requires std::is_invocable_v<VariantOf, Index, Index>
void step(KvBuffer<T>& buffer, const Inputs<T>& in, Index from, Index to,
          const VariantOf& variant_of, Buffered<T>& answers, const Executor& executor = {}) {
  const auto take = [&](const Inputs<T>& part, Tensor<T>& out,
                        const typename KvBuffer<T>::Step& options) {
    return buffer.step(part.q, part.k, part.v, variant_of(from, to), out, options);
  };
  step_by(take, in, from, to, answers, executor);
}

template <class T>
void step(KvBuffer<T>& buffer, const Inputs<T>& in, Index from, Index to, Buffered<T>& answers,
          const Executor& executor = {}) {
  const auto take = [&](const Inputs<T>& part, Tensor<T>& out,
                        const typename KvBuffer<T>::Step& options) {
    return standard_step(buffer, part, out, options);
  };
  step_by(take, in, from, to, answers, executor);
}

/// All tokens in one step.
template <class T>
Buffered<T> through(KvBuffer<T>& buffer, const Inputs<T>& in, const Executor& executor = {}) {
  Buffered<T> answers = answers_to(in);
  step(buffer, in, 0, in.q.dimension(2), answers, executor);
  return answers;
}
template <class T>
Buffered<T> through(const KvOptions& options, const Inputs<T>& in) {
  KvBuffer<T> buffer = buffer_for(in, options);
  return through(buffer, in);
}

/// Token by token, as in decoding.
template <class T>
Buffered<T> decode(KvBuffer<T>& buffer, const Inputs<T>& in) {
  Buffered<T> answers = answers_to(in);
  for (Index i = 0; i < in.q.dimension(2); ++i) step(buffer, in, i, i + 1, answers);
  return answers;
}

template <class T>
void expect_same_bits(const Buffered<T>& a, const Buffered<T>& b) {
  expect_same_bits<T>(static_cast<const Outputs<T>&>(a), static_cast<const Outputs<T>&>(b));
  EXPECT_TRUE(same_bits(a.evict_row, b.evict_row)) << "evict_row";
}

/// What a key head remembers is the same, slot by slot.
template <class T>
testing::AssertionResult same_slots(const KvSequence<T>& one, const KvSequence<T>& other,
                                    Index key_head) {
  const KvSlots<T>&a = one.slots(key_head), &b = other.slots(key_head);
  const auto differ = [](const char* what) { return testing::AssertionFailure() << what; };
  if (a.slots != b.slots || a.count != b.count || a.first != b.first) return differ("counts");
  if (a.position != b.position) return differ("positions");
  if (a.free != b.free) return differ("free slots");
  const auto bits = [](const auto& x, const auto& y) {
    return x.size() == y.size() &&
           (x.empty() || std::memcmp(x.data(), y.data(), x.size() * sizeof(T)) == 0);
  };
  if (!bits(a.carry, b.carry)) return differ("carries");
  if (!bits(a.received_weight, b.received_weight)) return differ("received weights");
  if (a.marks != b.marks) return differ("marks");
  if (a.finite != b.finite) return differ("finite");
  if (a.dropped != b.dropped) return differ("weight dropped");
  if (a.pages.size() != b.pages.size()) return differ("pages");
  for (std::size_t p = 0; p < a.pages.size(); ++p)
    if (std::memcmp(a.pages[p].data(), b.pages[p].data(), one.pool().layout().bytes) != 0)
      return differ("keys and values");
  return testing::AssertionSuccess();
}

/// Everything a sequence remembers is the same.
template <class T>
testing::AssertionResult same_memory(const KvSequence<T>& a, const KvSequence<T>& b) {
  if (a.next() != b.next() || a.budget() != b.budget())
    return testing::AssertionFailure() << "next or budget";
  for (Index g = 0; g < a.shape().key_heads; ++g)
    if (const auto same = same_slots(a, b, g); !same) return same;
  return testing::AssertionSuccess();
}

/// The tokens a key head holds, by position, and F of each.
template <class T>
std::vector<std::pair<Index, double>> held(const KvSequence<T>& s, Index key_head = 0) {
  std::vector<std::pair<Index, double>> tokens;
  for (const KvToken<T>& token : s.held(key_head)) tokens.emplace_back(token.position, token.f);
  return tokens;
}

// ---- the oracle's

inline reference::Pruning pruning(const KvOptions& o, Index tokens) {
  reference::Pruning p;
  p.budget = o.budget.value_or(tokens + 1);
  p.evict = o.evict.uses_weights()                      ? reference::Evict::least_attended
            : o.evict == Evict::most_masked && o.select ? reference::Evict::most_masked
                                                        : reference::Evict::oldest;  // F is 0
  p.after = o.when != EvictWhen::before_row;
  p.selective = o.select.has_value();
  p.protected_first.assign(o.protect.begin(), o.protect.end());
  p.recent = o.recent_tokens();
  return p;
}

inline reference::Selection selection(const SelectOptions& o) {
  reference::Selection s;
  s.head = o.head, s.relu = o.relu, s.protect_first = o.protect_first;
  s.forbid_self = o.forbid_self, s.accumulate = o.accumulate, s.shift = o.shift;
  return s;
}

/// The oracle's answer to the paper's selection or to none. Where eviction waits for the end of a
/// chunk, the chunk is the buffer's.
template <class T>
reference::Pruned pruned_oracle(const Inputs<T>& in, const KvOptions& o);

template <class T>
void expect_pruned(const Buffered<T>& got, const reference::Pruned& want) {
  EXPECT_TRUE(close(array(got.evict_row), want.evict_row, 0)) << "evict_row";
  EXPECT_TRUE(close(got.out, want.out)) << "out";
  EXPECT_TRUE(close(got.lse, want.lse)) << "lse";
}

/// Inputs whose evictions do not depend on rounding, and the oracle's answer.
template <class T>
struct Decided {
  Inputs<T> in;
  reference::Pruned want;
};

template <class T>
Decided<T> decided(const Shape& shape, const KvOptions& o, std::uint64_t seed);

inline std::string describe(const KvOptions& o) {
  const char* when[] = {"before_row", "after_row", "chunk_end"};
  std::string text = o.budget ? "budget " + std::to_string(*o.budget) : "no budget";
  text += std::string(", ") + o.evict.name() + ", " + when[int(o.when)] + ", chunk " +
          std::to_string(o.chunk.value_or(0)) + ", recent " + std::to_string(o.recent_tokens()) +
          ", protect";
  for (const Index position : o.protect) text += " " + std::to_string(position);
  return text + (o.select ? "" : ", nothing selects");
}

}  // namespace heed::test
