// SPDX-License-Identifier: MIT
/// @file
/// What gradients.hpp declares, for gradients_float.cpp and gradients_double.cpp, which
/// compile side by side.
#pragma once

#include "heed/engine/backward.hpp"
#include "heed/score/alibi.hpp"
#include "heed/score/alive.hpp"
#include "heed/score/bias.hpp"
#include "heed/score/block_span.hpp"
#include "heed/score/boolean_mask.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/documents.hpp"
#include "heed/score/dropout.hpp"
#include "heed/score/lengths.hpp"
#include "heed/score/prefix_lm.hpp"
#include "heed/score/query_offset.hpp"
#include "heed/score/score_rule.hpp"
#include "heed/score/sinks.hpp"
#include "heed/score/softcap.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/starts.hpp"
#include "heed/score/when.hpp"
#include "support/gradients.hpp"

#include <limits>

namespace heed::test {

template <class T>
reference::Rules Mixture<T>::rules(Index batch, Index queries) const {
  reference::Rules r;
  r.offset = offset;
  if (documents.size() + start.size() > 0)
    r.first_key = [ids = documents, starts = start](Index b, Index at) {
      const Index first = ids.size() == 0 ? 0 : reference::first_of_document(array(ids))(b, at);
      return starts.size() == 0 ? first : std::max<Index>(first, Index(starts(b)));
    };
  if (tau_q.size() > 0) r.tau_q = array(tau_q);
  if (position) {
    const auto kind = position->kind == Gain::sigmoid    ? reference::Gain::sigmoid
                      : position->kind == Gain::gompertz ? reference::Gain::gompertz
                                                         : reference::Gain::linear;
    const Index heads = tau_q.size() > 0 ? r.tau_q.dim(1) : 1;
    reference::Array both({batch, heads, queries});
    for (Index b = 0; b < batch; ++b)
      for (Index h = 0; h < heads; ++h)
        for (Index i = 0; i < queries; ++i) {
          const Index place = std::max<Index>(offset + i - first_of(r, b, offset + i), 0);
          both(b, h, i) = reference::position_temperature(kind, position->alpha, place) *
                          (tau_q.size() > 0 ? r.tau_q(b, h, i) : 1);
        }
    r.tau_q = both;
  }
  if (tau_k.size() > 0) r.tau_k = array(tau_k);
  if (tau_v.size() > 0) r.tau_v = array(tau_v);
  r.scale = scale;
  if (cap > 0) r.softcap = cap;
  if (bias.size() > 0) r.bias = array(bias);
  if (slopes.size() > 0) r.slopes = array(slopes);
  if (sinks.size() > 0) r.sinks = array(sinks);
  if (curved) r.score = [](double s, const reference::Pair&) { return s + s * s / 8; };

  const auto integers = [](const Tensor<std::int64_t, 1>& x) {
    return std::vector<Index>(x.data(), x.data() + x.size());
  };
  if (causal) r.visible = reference::causal();
  if (prefix >= 0) r.visible = reference::prefix_lm(std::vector<Index>(1000, prefix));
  if (left != unbounded || right != unbounded)
    r.visible = r.visible && reference::window(left, right);
  if (block > 0) r.visible = r.visible && reference::block_span(block, previous);
  if (documents.size() > 0) r.visible = r.visible && reference::documents(array(documents));
  const bool self_attention = causal || prefix >= 0 || right == 0 || documents.size() > 0;
  if (length.size() > 0) {
    r.visible = r.visible && reference::key_lengths(integers(length));
    if (self_attention) r.visible = r.visible && reference::row_lengths(integers(length));
  }
  if (start.size() > 0) {
    r.visible = r.visible && reference::key_starts(integers(start));
    if (self_attention) r.visible = r.visible && reference::row_starts(integers(start));
  }
  if (mask.size() > 0) r.visible = r.visible && reference::boolean_mask(array(mask));
  if (evict_row.size() > 0) r.visible = r.visible && reference::alive(array(evict_row));
  return r;
}

template <class T>
reference::Selection Mixture<T>::selection() const {
  reference::Selection s;
  s.head = select.head, s.relu = select.relu, s.protect_first = select.protect_first;
  s.forbid_self = select.forbid_self, s.accumulate = select.accumulate, s.shift = select.shift;
  if (carry_in.size() > 0) s.carry_in = array(carry_in);
  if (sel_q.size() > 0) s.sel_q = array(sel_q), s.sel_k = array(sel_k);
  return s;
}

template <class T>
reference::Cotangents Mixture<T>::cotangents(const Tensor<T>& grad_out) const {
  reference::Cotangents c;
  c.out = array(grad_out);
  if (grad_carry_out.size() > 0) c.carry_out = array(grad_carry_out);
  if (grad_memory.size() > 0) c.memory = array(grad_memory);
  if (grad_lse.size() > 0) c.lse = array(grad_lse);
  c.memory_tau = memory_tau;
  c.score_slope = [](double s, const reference::Pair&) { return 1 + s / 4; };
  return c;
}

// Views, const or not; of an empty tensor, which stands for one that is not wanted, none.
template <class T, int Rank>
View<const T, std::size_t(Rank)> in_view(const Tensor<T, Rank>& x) {
  if (x.size() == 0) return {};
  return View<const T, std::size_t(Rank)>(x);
}
template <class T, int Rank>
View<T, std::size_t(Rank)> out_view(Tensor<T, Rank>& x) {
  if (x.size() == 0) return {};
  return View<T, std::size_t(Rank)>(x);
}

template <class T>
auto selection_stage(const Mixture<T>& m, Gradients<T>& to) {
  return selecting(m.select)
      .carry_in(in_view(m.carry_in))
      .grad_carry_in(out_view(to.carry_in))
      .grad_carry_out(in_view(m.grad_carry_out))
      .grad_memory(in_view(m.grad_memory), m.memory_tau)
      .projection(in_view(m.sel_q), in_view(m.sel_k))
      .grad_projection(out_view(to.sel_q), out_view(to.sel_k));
}

// Three mixtures as short as a user would write them.

template <class T>
bool shapes_nothing(const Mixture<T>& m) {
  return !m.position && m.tau_q.size() + m.tau_k.size() + m.tau_v.size() == 0 && !m.scale &&
         m.cap == 0 && m.bias.size() + m.slopes.size() + m.sinks.size() == 0 && !m.curved &&
         m.dropped == 0 && m.block == 0 && m.prefix < 0 &&
         m.documents.size() + m.start.size() + m.evict_row.size() + m.mask.size() == 0;
}
template <class T>
auto masked(const Mixture<T>& m) {
  return query_offset(m.offset) | standard | when(m.causal, causal) | window(m.left, m.right) |
         when(m.length.size() > 0, lengths(m.length));
}

template <class T>
bool is_shaped(const Mixture<T>& m) {
  Mixture<T> rest = m;
  rest.cap = 0, rest.bias = {}, rest.sinks = {};
  return shapes_nothing(rest) && m.left == unbounded && m.right == unbounded &&
         m.length.size() == 0;
}
template <class T, class Last>
auto shaped(const Mixture<T>& m, Gradients<T>& to, const Last& last) {
  return query_offset(m.offset) | standard | when(m.cap > 0, softcap(m.cap)) |
         when(m.bias.size() > 0, bias(m.bias).grad(out_view(to.bias))) | when(m.causal, causal) |
         when(m.sinks.size() > 0, sinks(m.sinks).grad(out_view(to.sinks))) | when(m.selects, last);
}

template <class T, class Usual>
struct Tiny : Usual {
  static constexpr int group_rows = 3, panel_vectors = 1;
  static constexpr Index block_rows = 3, block_keys = 3 * simd::width<T>;
  static constexpr bool narrow_tiles = false;
};
template <class T>
using TinyForward = Tiny<T, Blocking<T>>;
template <class T>
using TinyBackward = Tiny<T, BackwardBlocking<T>>;

/// Everything there is. So many stages at once take too long to compile in the usual blocks.
template <class T, class Last>
auto everything(const Mixture<T>& m, Gradients<T>& to, const Last& last) {
  const auto curve = score_rule([](auto s, const auto&) { return s + s * s * T(0.125); },
                                [](auto grad, auto s, const auto&) { return grad + grad * s / 4; });
  return query_offset(m.offset) |
         when(m.position.has_value(),
              position_temperature(m.position.value_or(Gain())).grad(&to.alpha)) |
         when(m.tau_q.size() > 0, query_temperature(m.tau_q).grad(out_view(to.tau_q))) |
         when(m.tau_k.size() > 0, key_temperature(m.tau_k).grad(out_view(to.tau_k))) |
         when(m.tau_v.size() > 0, value_temperature(m.tau_v).grad(out_view(to.tau_v))) |
         when(!m.scale, standard) | when(m.scale.has_value(), scaled(m.scale.value_or(1))) |
         when(m.cap > 0, softcap(m.cap)) |
         when(m.bias.size() > 0, bias(m.bias).grad(out_view(to.bias))) |
         when(m.slopes.size() > 0, alibi(m.slopes).grad(out_view(to.slopes))) |
         when(m.curved, curve) | when(m.causal, causal) |
         when(m.prefix >= 0, prefix_lm(std::max<Index>(m.prefix, 0))) | window(m.left, m.right) |
         when(m.block > 0, block_span(std::max<Index>(m.block, 1), m.previous)) |
         when(m.documents.size() > 0, documents(m.documents)) |
         when(m.length.size() > 0, lengths(m.length)) | when(m.start.size() > 0, starts(m.start)) |
         when(m.mask.size() > 0, boolean_mask(m.mask)) |
         when(m.evict_row.size() > 0, alive(m.evict_row)) |
         when(m.sinks.size() > 0, sinks(m.sinks).grad(out_view(to.sinks))) | when(m.selects, last) |
         when(m.dropped > 0, dropout(m.dropped, 7));
}

template <class T>
Mixed<T> Mixture<T>::attend(const Inputs<T>& in, const Options& options) const {
  Gradients<T> none;
  Mixed<T> result;
  if (selects) {
    result.carry = Tensor<T, 2>(in.q.dimension(0), in.k.dimension(2));
    result.memory = Tensor<T, 2>(in.q.dimension(0), in.q.dimension(2));
  }
  const auto last = selection_stage(*this, none)
                        .carry_out(out_view(result.carry))
                        .memory(out_view(result.memory), memory_tau);
  const auto variant = everything(*this, none, last);
  const Index B = in.q.dimension(0), H = in.q.dimension(1), Nq = in.q.dimension(2);
  result.out = Tensor<T>(B, H, Nq, in.v.dimension(3));
  result.lse = Tensor<T, 3>(B, H, Nq);
  heed::detail::ForwardPass<T, TinyForward<T>, std::remove_const_t<decltype(variant)>>(
      in.q, in.k, in.v, variant)
      .run(result.out, result.lse, options);
  return result;
}

template <class T>
Gradients<T> Mixture<T>::unwritten(const Inputs<T>& in) const {
  Gradients<T> to;
  const auto like = [](const auto& x, auto& y) {
    y = x;
    y.setConstant(std::numeric_limits<T>::quiet_NaN());
  };
  like(in.q, to.q), like(in.k, to.k), like(in.v, to.v);
  like(tau_q, to.tau_q), like(tau_k, to.tau_k), like(tau_v, to.tau_v);
  like(bias, to.bias), like(slopes, to.slopes), like(sinks, to.sinks);
  like(carry_in, to.carry_in), like(sel_q, to.sel_q), like(sel_k, to.sel_k);
  return to;
}

template <class T>
void Mixture<T>::backward(const heed::detail::BackwardTensors<T>& x, Gradients<T>& stages,
                          const Options& options, bool in_tiny_blocks) const {
  const auto run = [&](const auto& variant) {
    stages.visited = heed::backward(x.q, x.k, x.v, variant, x.out, x.lse, x.grad_out, x.grad_lse,
                                    x.grad_q, x.grad_k, x.grad_v, options);
  };
  const auto last = selection_stage(*this, stages);
  if (in_tiny_blocks || !(is_shaped(*this) || shapes_nothing(*this))) {
    const auto variant = everything(*this, stages, last);
    heed::detail::BackwardPass<T, TinyBackward<T>, std::remove_const_t<decltype(variant)>> pass(
        x, variant);
    stages.visited = pass.run(options);
  } else if (!shapes_nothing(*this)) {
    run(shaped(*this, stages, last));
  } else if (selects) {
    run(masked(*this) | last);
  } else {
    run(masked(*this));
  }
}

}  // namespace heed::test
