// SPDX-License-Identifier: MIT
/// @file
/// What pass_float.cpp and pass_double.cpp instantiate.
#pragma once

#include "heed/engine/backward.hpp"
#include "heed/heed.hpp"
#include "pass.hpp"
#include "threads.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace heed_torch {

using heed::when;

/// The tensor's memory, empty if it is undefined.
template <class T, std::size_t Rank>
heed::View<T, Rank> view(const at::Tensor& x) {
  if (!x.defined()) return {};
  heed::Dims<Rank> dims{}, strides{};
  std::copy_n(x.sizes().begin(), Rank, dims.begin());
  std::copy_n(x.strides().begin(), Rank, strides.begin());
  return {static_cast<T*>(x.data_ptr()), dims, strides};
}

/// One call; `written` matters to the forward pass, `received` and `grads` to the backward pass.
struct Call {
  const Settings& settings;
  const Tensors& in;
  const Outputs& written;
  const Outputs& received;
  const Tensors& grads;
};

/// Is there a stage that works pair by pair, beside the selection?
inline bool has_pair_stages(const Settings& s, const Tensors& in) {
  return s.softcap || in.bias.defined() || in.alibi_slopes.defined() || in.evict_row.defined() ||
         in.mask.defined() || s.dropout != 0;
}

// The stages of a call, each of them there or not.

template <class T>
auto rescaling(const Call& call) {
  const auto& [s, in, written, received, grads] = call;
  return when(s.query_offset.has_value(), heed::query_offset(s.query_offset.value_or(0))) |
         when(in.tau_q.defined(),
              heed::query_temperature(view<const T, 3>(in.tau_q)).grad(view<T, 3>(grads.tau_q))) |
         when(in.tau_k.defined(),
              heed::key_temperature(view<const T, 3>(in.tau_k)).grad(view<T, 3>(grads.tau_k))) |
         when(in.tau_v.defined(),
              heed::value_temperature(view<const T, 3>(in.tau_v)).grad(view<T, 3>(grads.tau_v))) |
         heed::scaled(s.scale.value_or(1 / std::sqrt(double(in.q.size(3)))));
}

template <class T>
auto shaping(const Call& call) {
  const auto& [s, in, written, received, grads] = call;
  return when(s.softcap.has_value(), heed::softcap(s.softcap.value_or(1))) |
         when(in.bias.defined(),
              heed::bias(view<const T, 4>(in.bias)).grad(view<T, 4>(grads.bias))) |
         when(in.alibi_slopes.defined(),
              heed::alibi(view<const T, 1>(in.alibi_slopes)).grad(view<T, 1>(grads.alibi_slopes)));
}

template <class T>
auto ranges(const Call& call) {
  const auto& [s, in, written, received, grads] = call;
  using Integer = const std::int64_t;
  return when(s.causal && !in.prefix.defined(), heed::causal) |
         when(in.prefix.defined(), heed::prefix_lm(view<Integer, 1>(in.prefix))) |
         when(s.window_left || s.window_right,
              heed::window(s.window_left.value_or(heed::unbounded),
                           s.window_right.value_or(heed::unbounded))) |
         when(s.block_size.has_value(),
              heed::block_span(s.block_size.value_or(1), s.previous_blocks)) |
         when(in.documents.defined(), heed::documents(view<Integer, 2>(in.documents))) |
         when(in.lengths.defined(), heed::lengths(view<Integer, 1>(in.lengths))) |
         when(in.sinks.defined(),
              heed::sinks(view<const T, 1>(in.sinks)).grad(view<T, 1>(grads.sinks)));
}

inline auto masks(const Call& call) {
  const Tensors& in = call.in;
  return when(in.evict_row.defined(), heed::alive(view<const std::int64_t, 2>(in.evict_row))) |
         when(in.mask.defined(), heed::boolean_mask(view<const std::uint8_t, 4>(in.mask)));
}

template <class T>
auto selection(const Call& call) {
  const auto& [s, in, written, received, grads] = call;
  return when(s.selective,
              heed::selecting(s.select)
                  .carry_in(view<const T, 2>(in.carry_in))
                  .carry_out(view<T, 2>(written.carry_out))
                  .memory(view<T, 2>(written.memory), s.memory_tau)
                  .projection(view<const T, 3>(in.select_q), view<const T, 3>(in.select_k))
                  .grad_carry_in(view<T, 2>(grads.carry_in))
                  .grad_carry_out(view<const T, 2>(received.carry_out))
                  .grad_memory(view<const T, 2>(received.memory), s.memory_tau)
                  .grad_projection(view<T, 3>(grads.select_q), view<T, 3>(grads.select_k)));
}

/// Runs on the variant of the call. Two types serve all calls, for an instantiation takes long to
/// compile; the one without stages that work pair by pair is as fast as if written out.
template <class T, class Run>
void with_variant(const Call& call, Run&& run) {
  const auto& s = call.settings;
  if (has_pair_stages(s, call.in))
    run(rescaling<T>(call) | shaping<T>(call) | ranges<T>(call) | masks(call) | selection<T>(call) |
        when(s.dropout != 0, heed::dropout(s.dropout, s.dropout_seed)));
  else
    run(rescaling<T>(call) | ranges<T>(call) | selection<T>(call));
}

template <class T>
void forward(const Settings& settings, const Tensors& in, const Outputs& written) {
  with_variant<T>({settings, in, written, {}, {}}, [&](const auto& variant) {
    heed::forward(view<const T, 4>(in.q), view<const T, 4>(in.k), view<const T, 4>(in.v), variant,
                  view<T, 4>(written.out), view<T, 3>(written.lse), {.executor = threads()});
  });
}

template <class T>
void backward(const Settings& settings, const Tensors& in, const Outputs& written,
              const Outputs& received, const Tensors& grads) {
  with_variant<T>({settings, in, {}, received, grads}, [&](const auto& variant) {
    heed::backward(view<const T, 4>(in.q), view<const T, 4>(in.k), view<const T, 4>(in.v), variant,
                   view<const T, 4>(written.out), view<const T, 3>(written.lse),
                   view<const T, 4>(received.out), view<T, 4>(grads.q), view<T, 4>(grads.k),
                   view<T, 4>(grads.v), {.executor = threads()});
  });
}

}  // namespace heed_torch
