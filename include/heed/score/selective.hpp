// SPDX-License-Identifier: MIT
/// @file
/// Selective attention (Leviathan, Kalman, Matias: Selective Attention Improves Transformer,
/// arXiv:2410.02703): tokens mask keys for later tokens.
///
///     R(n, j) = max(0, s_0(n, j))  if 0 < j < n, else 0     the vote of row n against key j
///     F(i, j) = Σ_{n<i} R(n, j)
///     score(i, j) of every head ← s(i, j) − F(i, j)
///
/// s_0 are the scores of head 0 as they would enter the softmax: scaled, capped, biased, masked.
/// There are no votes against token 0 or against the token itself, and none from a masked pair. A
/// vote counts for later rows only. The paper defines F under a causal mask. Under prefix_lm, a row
/// n also sees keys j > n; it casts no vote against them. j and n count from the first key of the
/// sequence of the row, see documents and starts.
#pragma once

#include "heed/score/selection_scan.hpp"

namespace heed::inline HEED_ABI {

namespace detail {

inline void check_select_options(const SelectOptions& options, const Problem& p) {
  if (options.head < 0 || options.head >= p.heads)
    throw ValueError("selective: head ", options.head, " selects, there are ", p.heads);
}

}  // namespace detail

/// Selective attention with input and output tensors. Made by the member functions of Selective.
template <class T>
struct SelectiveWith : StageOf<Rank::scan> {
  SelectOptions options;
  SelectTensors<T> tensors;

  /// Input: F of the first row, [B, Nk], as carry_out gave it for earlier rows; 0 for new keys.
  SelectiveWith carry_in(std::type_identity_t<View<const T, 2>> x) const {
    SelectiveWith s = *this;
    s.tensors.carry_in = x;
    return s;
  }
  /// Input: the keys that get no votes, [B, Nk], those that are not 0, in place of the first of
  /// each sequence. For a call whose keys are a part of a sequence. No effect without
  /// SelectOptions::protect_first.
  SelectiveWith protected_keys(View<const std::uint8_t, 2> x) const {
    SelectiveWith s = *this;
    s.tensors.protected_keys = x;
    return s;
  }
  /// Output: F of the row after the last one, [B, Nk], overwritten. May be carry_in itself, unless
  /// backward() follows, which needs the original carry_in. Rows split into chunks in any way give
  /// the results of one pass.
  SelectiveWith carry_out(std::type_identity_t<View<T, 2>> x) const {
    SelectiveWith s = *this;
    s.tensors.carry_out = x;
    return s;
  }
  /// Output: the number of tokens that each row still holds in memory, [B, Nq], overwritten:
  ///
  ///     M(i) = i + 1 − Σ_{j≤i} min(F(i, j), τ) / τ,     τ in [1e-30, 1e30]
  SelectiveWith memory(std::type_identity_t<View<T, 2>> x, double tau = 1) const {
    SelectiveWith s = *this;
    s.tensors.memory = x;
    s.tensors.memory_tau = tau;
    return s;
  }
  /// Output: F itself, [B, Nq, Nk], overwritten, zero for j > i. For inspection of short texts: it
  /// takes O(Nq Nk) memory.
  SelectiveWith mask_f(std::type_identity_t<View<T, 3>> x) const {
    SelectiveWith s = *this;
    s.tensors.mask_f = x;
    return s;
  }
  /// Input: separate queries [B, Nq, Ds] and keys [B, Nk, Ds] whose scores, over √Ds, select in
  /// place of a head's.
  SelectiveWith projection(std::type_identity_t<View<const T, 3>> queries,
                           std::type_identity_t<View<const T, 3>> keys) const {
    SelectiveWith s = *this;
    s.tensors.projection = {queries, keys};
    return s;
  }

  // Inputs and outputs of backward(), beside the gradients of q, k and v.

  /// Output: ∂L/∂carry_in, [B, Nk], overwritten by backward().
  SelectiveWith grad_carry_in(std::type_identity_t<View<T, 2>> x) const {
    SelectiveWith s = *this;
    s.tensors.grad_carry_in = x;
    return s;
  }
  /// Input: ∂L/∂carry_out, [B, Nk]: grad_carry_in of the next chunk.
  SelectiveWith grad_carry_out(std::type_identity_t<View<const T, 2>> x) const {
    SelectiveWith s = *this;
    s.tensors.grad_carry_out = x;
    return s;
  }
  /// Input: ∂L/∂M, [B, Nq], from memory_loss(); τ as for memory().
  SelectiveWith grad_memory(std::type_identity_t<View<const T, 2>> x, double tau = 1) const {
    SelectiveWith s = *this;
    s.tensors.grad_memory = x;
    s.tensors.memory_tau = tau;
    return s;
  }
  /// Output: ∂L/∂ the queries and keys of projection(), overwritten by backward().
  SelectiveWith grad_projection(std::type_identity_t<View<T, 3>> queries,
                                std::type_identity_t<View<T, 3>> keys) const {
    SelectiveWith s = *this;
    s.tensors.grad_projection = {queries, keys};
    return s;
  }

  template <class U>
  detail::Selecting<T> bind(const Problem& p, Arena& arena) const {
    static_assert(std::is_same_v<T, U>,
                  "heed: selective's tensors must have the number type of out");
    return {options, tensors, p, arena};
  }
  void check(const Problem& p) const {
    detail::check_select_options(options, p);
    const auto& t = tensors;
    const char *keys = "one number per key", *rows = "one number per row";
    detail::expect_within("selective: tau", t.memory_tau, 1e-30, 1e30);
    if (t.carry_in) expect_dims("carry_in", t.carry_in.dims(), {p.batch, p.keys}, keys);
    if (t.protected_keys)
      expect_dims("protected_keys", t.protected_keys.dims(), {p.batch, p.keys}, keys);
    if (t.carry_out) expect_dims("carry_out", t.carry_out.dims(), {p.batch, p.keys}, keys);
    if (t.memory) expect_dims("memory", t.memory.dims(), {p.batch, p.queries}, rows);
    if (t.grad_carry_in)
      expect_dims("grad_carry_in", t.grad_carry_in.dims(), {p.batch, p.keys}, keys);
    if (t.grad_carry_out)
      expect_dims("grad_carry_out", t.grad_carry_out.dims(), {p.batch, p.keys}, keys);
    if (t.grad_memory) expect_dims("grad_memory", t.grad_memory.dims(), {p.batch, p.queries}, rows);
    if (const auto& [q, k] = t.grad_projection; q || k) {
      expect_dims("grad_projection's queries", q.dims(), t.projection.queries.dims(),
                  "the projection's");
      expect_dims("grad_projection's keys", k.dims(), t.projection.keys.dims(), "the projection's");
    }
    if (t.mask_f)
      expect_dims("mask_f", t.mask_f.dims(), {p.batch, p.queries, p.keys}, "one number per pair");
    if (const auto& [q, k] = t.projection; q || k) {
      if (!q || !k) throw ShapeError("projection: queries and keys come together");
      expect_dims("projection queries", q.dims(), {p.batch, p.queries, q.dim(2)},
                  "as many as of q");
      expect_dims("projection keys", k.dims(), {p.batch, p.keys, q.dim(2)}, "as many as of k");
      if (q.dim(2) < 1 || q.stride(2) != 1 || k.stride(2) != 1)
        throw ShapeError("projection: rows must be contiguous and not empty");
    }
    if (p.tensors) name_tensors(*p.tensors, p.backward);
  }

 private:
  /// Names the tensors that this pass reads or writes.
  void name_tensors(detail::CallTensors& call, bool backward) const {
    const auto& t = tensors;
    call.reads("carry_in", t.carry_in), call.reads("protected_keys", t.protected_keys);
    call.reads("projection queries", t.projection.queries);
    call.reads("projection keys", t.projection.keys);
    if (!backward) {
      call.writes("carry_out", t.carry_out, {"carry_in"});
      call.writes("memory", t.memory), call.writes("mask_f", t.mask_f);
      return;
    }
    call.reads("grad_carry_out", t.grad_carry_out), call.reads("grad_memory", t.grad_memory);
    call.writes("grad_carry_in", t.grad_carry_in, {"grad_carry_out"});
    call.writes("grad_projection's queries", t.grad_projection.queries);
    call.writes("grad_projection's keys", t.grad_projection.keys);
  }
};

/// Selective attention. `selective` has the paper's options, selecting({...}) others. Input and
/// output tensors are added by member functions:
///
///     standard | causal | selective
///     standard | causal | selecting({.head = 3}).carry_in(before).carry_out(after)
///
/// @throws ValueError if options.head is not a query head; ShapeError if a tensor does not fit.
struct Selective : StageOf<Rank::scan> {
  SelectOptions options;

  /// See SelectiveWith::carry_in().
  template <class X>
  auto carry_in(X&& x) const {
    return with<X>().carry_in(std::forward<X>(x));
  }
  /// See SelectiveWith::carry_out().
  template <class X>
  auto carry_out(X&& x) const {
    return with<X>().carry_out(std::forward<X>(x));
  }
  /// See SelectiveWith::memory().
  template <class X>
  auto memory(X&& x, double tau = 1) const {
    return with<X>().memory(std::forward<X>(x), tau);
  }
  /// See SelectiveWith::mask_f().
  template <class X>
  auto mask_f(X&& x) const {
    return with<X>().mask_f(std::forward<X>(x));
  }
  /// See SelectiveWith::grad_carry_in().
  template <class X>
  auto grad_carry_in(X&& x) const {
    return with<X>().grad_carry_in(std::forward<X>(x));
  }
  /// See SelectiveWith::grad_carry_out().
  template <class X>
  auto grad_carry_out(X&& x) const {
    return with<X>().grad_carry_out(std::forward<X>(x));
  }
  /// See SelectiveWith::grad_memory().
  template <class X>
  auto grad_memory(X&& x, double tau = 1) const {
    return with<X>().grad_memory(std::forward<X>(x), tau);
  }
  /// See SelectiveWith::projection().
  template <class X, class Y>
  auto projection(X&& queries, Y&& keys) const {
    return with<X>().projection(std::forward<X>(queries), std::forward<Y>(keys));
  }

  template <class T>
  detail::Selecting<T> bind(const Problem& p, Arena& arena) const {
    return {options, {}, p, arena};
  }
  void check(const Problem& p) const { detail::check_select_options(options, p); }

 private:
  template <class X>
  SelectiveWith<ScalarOf<X>> with() const {
    return {{}, options, {}};
  }
};

/// Selective attention with the paper's options: head 0 votes on which keys later rows mask. Comes
/// after the causal mask.
inline constexpr Selective selective;
/// Selective attention with other options than the paper's; see SelectOptions. ValueError if
/// options.head is not a query head.
constexpr Selective selecting(const SelectOptions& options) {
  return {{}, options};
}

}  // namespace heed::inline HEED_ABI
