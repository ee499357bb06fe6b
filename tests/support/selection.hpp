// SPDX-License-Identifier: MIT
/// @file
/// One call of selective attention with everything it can hand out, and the oracle's.
#pragma once

#include "heed/score/selective.hpp"
#include "reference/selective.hpp"
#include "support/calls.hpp"

#include <limits>

namespace heed::test {

template <class T>
reference::SelectiveAttention selective_oracle(const Inputs<T>& in, reference::Rules rules,
                                               const reference::Selection& selection = {}) {
  return selective_attention(array(in.q), array(in.k), array(in.v), rules, selection);
}

inline reference::Rules causal_rules() {
  return seeing(reference::causal());
}

/// The oracle's F is unspecified above the diagonal; the library's is zero.
inline reference::Array lower(reference::Array f, Index offset = 0) {
  for (Index b = 0; b < f.dim(0); ++b)
    for (Index i = 0; i < f.dim(1); ++i)
      for (Index j = offset + i + 1; j < f.dim(2); ++j) f(b, i, j) = 0;
  return f;
}

/// Everything the stage can give.
template <class T>
struct Selected : Outputs<T> {
  Tensor<T, 2> carry, memory;
  Tensor<T, 3> f;
};

template <class T, class Before, class Stage>
Selected<T> select_all(const Inputs<T>& in, const Before& before, const Stage& stage) {
  const Index B = in.q.dimension(0), Nq = in.q.dimension(2), Nk = in.k.dimension(2);
  Selected<T> s{{}, Tensor<T, 2>(B, Nk), Tensor<T, 2>(B, Nq), Tensor<T, 3>(B, Nq, Nk)};
  const T nan = std::numeric_limits<T>::quiet_NaN();
  s.carry.setConstant(nan);
  s.memory.setConstant(nan);
  s.f.setConstant(nan);
  static_cast<Outputs<T>&>(s) =
      attend(in, before | stage.carry_out(s.carry).memory(s.memory).mask_f(s.f));
  return s;
}

}  // namespace heed::test
