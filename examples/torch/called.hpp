// SPDX-License-Identifier: MIT
/// @file Stages that are called where the engine would have them inlined.
#pragma once

#include "heed/score/stage.hpp"

namespace heed_torch {

/// The stage, its register hooks each one function. The engine unrolls tiles, and writes out what a
/// stage does once a register of a tile; of six stages that are mostly off that is 180 KB a tile,
/// and three times the time to compile.
template <class S>
struct Called : S {
  template <class T>
  auto bind(const heed::Problem& p, heed::Arena& arena) const {
    auto stage = heed::bound<T>(static_cast<const S&>(*this), p, arena);
    return Called<decltype(stage)>{std::move(stage)};
  }
  template <class T>
  [[gnu::noinline]] heed::Batch<T> score(const heed::Batch<T>& s, const heed::Lanes<T>& at) const {
    return S::score(s, at);
  }
  template <class T>
  [[gnu::noinline]] heed::Mask<T> visible(const heed::Mask<T>& m, const heed::Lanes<T>& at) const {
    return S::visible(m, at);
  }
  template <class T>
  [[gnu::noinline]] heed::Batch<T> weight(const heed::Batch<T>& w, const heed::Lanes<T>& at) const {
    return S::weight(w, at);
  }
  template <class T>
  [[gnu::noinline]] heed::Batch<T> grad_score(const heed::Batch<T>& grad, const heed::Batch<T>& s,
                                              const heed::Lanes<T>& at) {
    return S::grad_score(grad, s, at);
  }
};

template <class S>
Called<S> called(const S& stage) {
  return {stage};
}

}  // namespace heed_torch
