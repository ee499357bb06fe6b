// SPDX-License-Identifier: MIT
#include "c_interface/oracle.h"

#include "heed/heed.hpp"

#include <cstdio>

namespace {

using heed::Index, heed::View, heed::when;
using Integers = View<const std::int64_t, 1>;

template <class T, std::size_t Rank>
View<T, Rank> view(T* data, const heed::Dims<Rank>& dims) {
  return data == nullptr ? View<T, Rank>() : View<T, Rank>(data, dims);
}

auto variant_of(const oracle_call& c) {
  const heed::SelectOptions select{.head = c.select_head,
                                   .relu = c.relu != 0,
                                   .protect_first = c.protect_first != 0,
                                   .forbid_self = c.forbid_self != 0,
                                   .accumulate = c.accumulate != 0,
                                   .shift = c.shift != 0};
  const Index b = c.batch, h = c.heads, n = c.queries, m = c.keys;
  const heed::Dims<4> bias{1, h, n, m};
  return when(c.offset != 0, heed::query_offset(c.offset)) |
         when(c.offsets != nullptr, heed::query_offset(Integers(c.offsets, {b}))) |
         when(c.tau_q != nullptr, heed::query_temperature(view(c.tau_q, heed::Dims<3>{b, 1, n}))
                                      .grad(view(c.grad_tau_q, heed::Dims<3>{b, 1, n}))) |
         when(c.tau_k != nullptr, heed::key_temperature(view(c.tau_k, heed::Dims<3>{b, 1, m}))
                                      .grad(view(c.grad_tau_k, heed::Dims<3>{b, 1, m}))) |
         when(c.tau_v != nullptr, heed::value_temperature(view(c.tau_v, heed::Dims<3>{b, 1, m}))
                                      .grad(view(c.grad_tau_v, heed::Dims<3>{b, 1, m}))) |
         heed::scaled(c.scale != 0 ? c.scale : 1 / std::sqrt(double(c.dim))) |
         when(c.softcap != 0, heed::softcap(c.softcap)) |
         when(c.bias != nullptr, heed::bias(view(c.bias, bias)).grad(view(c.grad_bias, bias))) |
         when(c.alibi != 0, heed::alibi()) |
         when(c.slopes != nullptr, heed::alibi(view(c.slopes, heed::Dims<1>{h}))
                                       .grad(view(c.grad_slopes, heed::Dims<1>{h}))) |
         when(c.causal == 1, heed::causal) | when(c.causal == 2, heed::causal_top_left) |
         when(c.causal == 3, heed::causal_bottom_right) |
         when(c.has_window != 0, heed::window(c.left, c.right)) |
         when(c.block != 0, heed::block_span(c.block, c.previous)) |
         when(c.documents != nullptr, heed::documents(view(c.documents, heed::Dims<2>{b, m}))) |
         when(c.starts != nullptr, heed::starts(Integers(c.starts, {b}))) |
         when(c.lengths != nullptr, heed::lengths(Integers(c.lengths, {b}))) |
         when(c.mask != nullptr, heed::boolean_mask(view(c.mask, heed::Dims<4>{b, 1, n, m}))) |
         when(c.sinks != nullptr, heed::sinks(view(c.sinks, heed::Dims<1>{h}))
                                      .grad(view(c.grad_sinks, heed::Dims<1>{h}))) |
         when(c.selective != 0, heed::selecting(select)
                                    .carry_in(view(c.carry_in, heed::Dims<2>{b, m}))
                                    .carry_out(view(c.carry_out, heed::Dims<2>{b, m}))
                                    .mask_f(view(c.mask_f, heed::Dims<3>{b, n, m}))
                                    .memory(view(c.memory, heed::Dims<2>{b, n}), c.tau)
                                    .grad_carry_in(view(c.grad_carry_in, heed::Dims<2>{b, m}))
                                    .grad_carry_out(view(c.grad_carry_out, heed::Dims<2>{b, m}))
                                    .grad_memory(view(c.grad_memory, heed::Dims<2>{b, n}), c.tau));
}

/// 1 if it throws, and the message.
template <class F>
int run(const F& f) {
  try {
    f();
    return 0;
  } catch (const std::exception& e) {
    std::printf("the C++ library says: %s\n", e.what());
    return 1;
  }
}

}  // namespace

int oracle_run(const oracle_call* call) {
  return run([&] {
    const oracle_call& c = *call;
    const heed::Dims<4> q{c.batch, c.heads, c.queries, c.dim},
        k{c.batch, c.key_heads, c.keys, c.dim}, v{c.batch, c.key_heads, c.keys, c.value_dim},
        out{c.batch, c.heads, c.queries, c.value_dim};
    const heed::Dims<3> rows{c.batch, c.heads, c.queries};
    const auto variant = variant_of(c);
    heed::forward(view(c.q, q), view(c.k, k), view(c.v, v), variant, view(c.out, out),
                  view(c.lse, rows));
    if (c.grad_q == nullptr) return;
    heed::backward(view(c.q, q), view(c.k, k), view(c.v, v), variant,
                   view<const double>(c.out, out), view<const double>(c.lse, rows),
                   view(c.grad_out, out), view(c.grad_lse, rows), view(c.grad_q, q),
                   view(c.grad_k, k), view(c.grad_v, v));
  });
}

int oracle_cache(const oracle_call* call, int64_t budget, int rule, int64_t rows, double* out,
                 int64_t* positions) {
  return run([&] {
    const oracle_call& c = *call;
    heed::KvOptions options;
    options.budget = budget;
    if (rule == 3) options.evict = heed::oldest, options.select.reset();
    heed::KvCache<double> cache({1, c.heads, c.key_heads, c.dim, c.value_dim}, options);
    heed::KvSequence<double> sequences[] = {cache.open(), cache.open()};
    for (Index n = 0; n < c.keys; n += rows) {
      const Index count = std::min(rows, c.keys - n);
      const auto part = [&](auto* data, Index heads, Index dim) {
        return View(data + n * dim, heed::Dims<4>{2, heads, count, dim},
                    heed::row_major(heed::Dims<4>{2, heads, c.keys, dim}));
      };
      cache.step({&sequences[0], &sequences[1]}, part(c.q, c.heads, c.dim),
                 part(c.k, c.key_heads, c.dim), part(c.v, c.key_heads, c.value_dim),
                 heed::scaled(c.scale != 0 ? c.scale : 1 / std::sqrt(double(c.dim))) |
                     when(c.softcap != 0, heed::softcap(c.softcap)),
                 part(out, c.heads, c.value_dim));
    }
    for (int b = 0; b < 2; ++b) {
      std::fill_n(positions + b * budget, budget, -1);
      Index at = 0;
      for (const auto& token : sequences[b].held()) positions[b * budget + at++] = token.position;
    }
  });
}
