// SPDX-License-Identifier: MIT
/// @file What pass_float.cpp and pass_double.cpp instantiate.
#pragma once

#include "heed/engine/backward.hpp"
#include "heed/heed.hpp"
#include "pass.hpp"
#include "threads.hpp"

namespace heed_torch {

/// The tensor's memory, empty if it is undefined.
template <class T, std::size_t Rank>
heed::View<T, Rank> view(const at::Tensor& x) {
  if (!x.defined()) return {};
  heed::Dims<Rank> dims{}, strides{};
  std::copy_n(x.sizes().begin(), Rank, dims.begin());
  std::copy_n(x.strides().begin(), Rank, strides.begin());
  return {static_cast<T*>(x.data_ptr()), dims, strides};
}

/// One type for every call, each stage there or not: instantiations take long to compile. `written`
/// belongs to the forward pass, `received` and `grads` to the backward pass.
template <class T>
auto variant_of(const Settings& s, const Tensors& in, const Outputs& written,
                const Outputs& received, const Tensors& grads) {
  using heed::when;
  const double scale = s.scale.value_or(1 / std::sqrt(double(in.q.size(3))));
  const auto temperature = [&](auto&& stage, at::Tensor Tensors::*tau) {
    return when((in.*tau).defined(),
                stage(view<const T, 3>(in.*tau)).grad(view<T, 3>(grads.*tau)));
  };
  const auto rescaled =
      when(s.query_offset.has_value(), heed::query_offset(s.query_offset.value_or(0))) |
      temperature([](auto tau) { return heed::query_temperature(tau); }, &Tensors::tau_q) |
      temperature([](auto tau) { return heed::key_temperature(tau); }, &Tensors::tau_k) |
      temperature([](auto tau) { return heed::value_temperature(tau); }, &Tensors::tau_v) |
      heed::scaled(scale);
  const auto biased =
      rescaled | when(s.softcap.has_value(), heed::softcap(s.softcap.value_or(1))) |
      when(in.bias.defined(),
           heed::bias(view<const T, 4>(in.bias)).grad(view<T, 4>(grads.bias))) |
      when(in.alibi_slopes.defined(), heed::alibi(view<const T, 1>(in.alibi_slopes))
                                          .grad(view<T, 1>(grads.alibi_slopes)));
  const auto masked =
      biased | when(s.causal && !in.prefix.defined(), heed::causal) |
      when(in.prefix.defined(), heed::prefix_lm(view<const std::int64_t, 1>(in.prefix))) |
      when(s.window_left || s.window_right, heed::window(s.window_left.value_or(heed::unbounded),
                                                         s.window_right.value_or(heed::unbounded))) |
      when(s.block_size.has_value(),
           heed::block_span(s.block_size.value_or(1), s.previous_blocks)) |
      when(in.documents.defined(), heed::documents(view<const std::int64_t, 2>(in.documents))) |
      when(in.lengths.defined(), heed::lengths(view<const std::int64_t, 1>(in.lengths))) |
      when(in.evict_row.defined(), heed::alive(view<const std::int64_t, 2>(in.evict_row))) |
      when(in.mask.defined(), heed::boolean_mask(view<const std::uint8_t, 4>(in.mask))) |
      when(in.sinks.defined(),
           heed::sinks(view<const T, 1>(in.sinks)).grad(view<T, 1>(grads.sinks)));
  return masked |
         when(s.selective,
              heed::selecting(s.select)
                  .carry_in(view<const T, 2>(in.carry_in))
                  .carry_out(view<T, 2>(written.carry_out))
                  .memory(view<T, 2>(written.memory), s.memory_tau)
                  .projection(view<const T, 3>(in.select_q), view<const T, 3>(in.select_k))
                  .grad_carry_in(view<T, 2>(grads.carry_in))
                  .grad_carry_out(view<const T, 2>(received.carry_out))
                  .grad_memory(view<const T, 2>(received.memory), s.memory_tau)
                  .grad_projection(view<T, 3>(grads.select_q), view<T, 3>(grads.select_k))) |
         when(s.dropout != 0, heed::dropout(s.dropout, s.dropout_seed));
}

template <class T>
void forward(const Settings& s, const Tensors& in, const Outputs& written) {
  heed::forward(view<const T, 4>(in.q), view<const T, 4>(in.k), view<const T, 4>(in.v),
                variant_of<T>(s, in, written, {}, {}), view<T, 4>(written.out),
                view<T, 3>(written.lse), {.executor = threads()});
}

template <class T>
void backward(const Settings& s, const Tensors& in, const Outputs& written,
              const Outputs& received, const Tensors& grads) {
  heed::backward(view<const T, 4>(in.q), view<const T, 4>(in.k), view<const T, 4>(in.v),
                 variant_of<T>(s, in, {}, received, grads), view<const T, 4>(written.out),
                 view<const T, 3>(written.lse), view<const T, 4>(received.out),
                 view<T, 4>(grads.q), view<T, 4>(grads.k), view<T, 4>(grads.v),
                 {.executor = threads()});
}

}  // namespace heed_torch
