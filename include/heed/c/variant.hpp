// SPDX-License-Identifier: MIT
/// @file
/// heed_variant and heed_run as stages and options.
#pragma once

#include "heed/c/tables.hpp"
#include "heed/c/views.hpp"
#include "heed/engine/options.hpp"
#include "heed/engine/work_stats.hpp"
#include "heed/score/alibi.hpp"
#include "heed/score/bias.hpp"
#include "heed/score/block_span.hpp"
#include "heed/score/boolean_mask.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/documents.hpp"
#include "heed/score/lengths.hpp"
#include "heed/score/query_offset.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/sinks.hpp"
#include "heed/score/softcap.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/starts.hpp"
#include "heed/score/temperature.hpp"
#include "heed/score/when.hpp"
#include "heed/score/window.hpp"

#include <cmath>

namespace heed::inline HEED_ABI::c_interface {

/// @throws ValueError unless `flags` are of HEED_VOTES_…
inline SelectOptions select_options(std::int64_t head, std::int32_t flags) {
  constexpr std::int32_t all = 2 * HEED_VOTES_FROM_OWN_ROW - 1;
  if ((flags & ~all) != 0) throw ValueError("select_flags is ", flags, ", must lie in 0 … ", all);
  const auto has = [&](std::int32_t flag) { return (flags & flag) != 0; };
  return {.head = head,
          .relu = !has(HEED_VOTES_OF_ANY_SIGN),
          .protect_first = !has(HEED_VOTES_ON_FIRST),
          .forbid_self = !has(HEED_VOTES_ON_SELF),
          .accumulate = !has(HEED_VOTES_OF_LAST_ROW),
          .shift = !has(HEED_VOTES_FROM_OWN_ROW)};
}

inline std::optional<double> negligible_of(double x) {
  if (x == 0) return {};
  return x == HEED_PRUNE_NOTHING ? 0 : x;
}

inline Options options_of(const c::Run& run) {
  Options options;
  if (run.run_tasks != nullptr) options.executor = {run.pool, run.workers, run.run_tasks};
  options.workspace = static_cast<Workspace*>(run.workspace);
  options.negligible = negligible_of(run.negligible);
  if (run.bfloat16 < HEED_BFLOAT16_FASTEST || run.bfloat16 > HEED_BFLOAT16_TILES)
    throw ValueError("heed_run.bfloat16 is ", run.bfloat16, ", must lie in 0 … 3");
  if (run.bfloat16 != HEED_BFLOAT16_FASTEST)
    options.bfloat16 = Bfloat16(run.bfloat16 - HEED_BFLOAT16_WIDENED);
  return options;
}

inline heed_work work_of(const WorkStats& stats) {
  return {stats.pairs, stats.tiles, stats.dropped};
}

/// The tensors of a variant, checked one by one, and its stages, each of them there or not.
template <class T>
class VariantStages {
 public:
  using In = const heed_tensor*;

  /// @param writes  true: the tensors that a forward pass writes; false: those of a backward pass.
  VariantStages(const heed_variant& variant, bool writes) : v_(variant) {
    if (v_.causal < HEED_NOT_CAUSAL || v_.causal > HEED_CAUSAL_BOTTOM_RIGHT)
      throw ValueError("heed_variant.causal is ", v_.causal, ", must lie in 0 … 3");
    if (v_.reserved != 0) throw ValueError("heed_variant.reserved is ", v_.reserved, ", not 0");
    if (v_.window == 0 && (v_.window_left != 0 || v_.window_right != 0))
      throw ValueError("heed_variant: sides of a window are given, but window is 0");
    if (v_.block_size == 0 && v_.previous_blocks != 0)
      throw ValueError("heed_variant: previous_blocks is ", v_.previous_blocks,
                       ", but block_size is 0");
    if (v_.alibi != 0 && v_.alibi_slopes != nullptr)
      throw ValueError("heed_variant: alibi and alibi_slopes are both given");
    if (v_.selective == 0 &&
        (v_.select_head != 0 || v_.select_flags != 0 || v_.carry_in != nullptr ||
         v_.carry_out != nullptr || v_.mask_f != nullptr || v_.memory != nullptr ||
         v_.grad_carry_in != nullptr || v_.grad_carry_out != nullptr || v_.grad_memory != nullptr))
      throw ValueError(
          "heed_variant: an option or tensor of selection is given, but selective is "
          "0");
    query_offsets_ = integers<1>("query_offsets", v_.query_offsets);
    lengths_ = integers<1>("lengths", v_.lengths), starts_ = integers<1>("starts", v_.starts);
    documents_ = integers<2>("documents", v_.documents);
    mask_ = view<const std::uint8_t, 4>("mask", v_.mask, true);
    bias_ = view<const T, 4>("bias", v_.bias, true);
    sinks_ = numbers<1>("sinks", v_.sinks), slopes_ = numbers<1>("alibi_slopes", v_.alibi_slopes);
    tau_q_ = numbers<3>("tau_q", v_.tau_q), tau_k_ = numbers<3>("tau_k", v_.tau_k);
    tau_v_ = numbers<3>("tau_v", v_.tau_v), carry_in_ = numbers<2>("carry_in", v_.carry_in);
    if (writes) {
      carry_out_ = results<2>("carry_out", v_.carry_out);
      mask_f_ = results<3>("mask_f", v_.mask_f), memory_ = results<2>("memory", v_.memory);
      return;
    }
    grad_bias_ = view<T, 4>("grad_bias", gradient("grad_bias", v_.grad_bias, v_.bias), true);
    grad_sinks_ = results<1>("grad_sinks", gradient("grad_sinks", v_.grad_sinks, v_.sinks));
    grad_slopes_ = results<1>("grad_alibi_slopes",
                              gradient("grad_alibi_slopes", v_.grad_alibi_slopes, v_.alibi_slopes));
    grad_tau_q_ = results<3>("grad_tau_q", gradient("grad_tau_q", v_.grad_tau_q, v_.tau_q));
    grad_tau_k_ = results<3>("grad_tau_k", gradient("grad_tau_k", v_.grad_tau_k, v_.tau_k));
    grad_tau_v_ = results<3>("grad_tau_v", gradient("grad_tau_v", v_.grad_tau_v, v_.tau_v));
    grad_carry_in_ = results<2>("grad_carry_in", v_.grad_carry_in);
    grad_carry_out_ = numbers<2>("grad_carry_out", v_.grad_carry_out);
    grad_memory_ = numbers<2>("grad_memory", v_.grad_memory);
  }

  /// Is there a stage that works pair by pair, beside the selection?
  bool has_pair_stages() const {
    return v_.softcap != 0 || bias_ || v_.alibi != 0 || slopes_ || mask_;
  }

  // The stages, in groups. A group without pair stages runs as fast as if written out.

  auto scaling() const {
    return when(v_.query_offset != 0, heed::query_offset(v_.query_offset)) |
           when(bool(query_offsets_), heed::query_offset(query_offsets_)) |
           when(bool(tau_q_), query_temperature(tau_q_).grad(grad_tau_q_)) |
           when(bool(tau_k_), key_temperature(tau_k_).grad(grad_tau_k_)) |
           when(bool(tau_v_), value_temperature(tau_v_).grad(grad_tau_v_)) | scale();
  }
  auto shaping() const {
    return when(v_.softcap != 0, heed::softcap(v_.softcap)) |
           when(bool(bias_), heed::bias(bias_).grad(grad_bias_)) | alibis();
  }
  auto ranges() const {
    return when(v_.causal == HEED_CAUSAL, heed::causal) |
           when(v_.causal == HEED_CAUSAL_TOP_LEFT, causal_top_left) |
           when(v_.causal == HEED_CAUSAL_BOTTOM_RIGHT, causal_bottom_right) |
           when(v_.window != 0, heed::window(v_.window_left, v_.window_right)) |
           when(v_.block_size != 0, block_span(v_.block_size, v_.previous_blocks)) |
           when(bool(documents_), heed::documents(documents_)) |
           when(bool(starts_), heed::starts(starts_)) |
           when(bool(lengths_), heed::lengths(lengths_)) |
           when(bool(sinks_), heed::sinks(sinks_).grad(grad_sinks_));
  }
  auto masks() const { return when(bool(mask_), boolean_mask(mask_)); }
  auto selection() const {
    const double tau = v_.memory_tau == 0 ? 1 : v_.memory_tau;
    return when(v_.selective != 0, selecting(select_options(v_.select_head, v_.select_flags))
                                       .carry_in(carry_in_)
                                       .carry_out(carry_out_)
                                       .mask_f(mask_f_)
                                       .memory(memory_, tau)
                                       .grad_carry_in(grad_carry_in_)
                                       .grad_carry_out(grad_carry_out_)
                                       .grad_memory(grad_memory_, tau));
  }

  /// Those that a cache takes. @throws ValueError if there are others.
  auto of_cache() const {
    const auto refuse = [](const char* field, bool is_given) {
      if (is_given)
        throw ValueError("heed_variant.", field, ": a cache does not take it, see heed_cache_step");
    };
    refuse("causal", v_.causal > HEED_CAUSAL);
    refuse("window", v_.window != 0), refuse("block_size", v_.block_size != 0);
    refuse("query_offset", v_.query_offset != 0), refuse("query_offsets", bool(query_offsets_));
    refuse("lengths", bool(lengths_)), refuse("starts", bool(starts_));
    refuse("documents", bool(documents_)), refuse("mask", bool(mask_));
    refuse("bias", bool(bias_)), refuse("selective", v_.selective != 0);
    refuse("tau_k", bool(tau_k_)), refuse("tau_v", bool(tau_v_));
    return when(bool(tau_q_), query_temperature(tau_q_)) | scale() |
           when(v_.softcap != 0, heed::softcap(v_.softcap)) | alibis() |
           when(bool(sinks_), heed::sinks(sinks_));
  }

 private:
  template <std::size_t Rank>
  static auto integers(const char* what, In x) {
    return view<const std::int64_t, Rank>(what, x);
  }
  template <std::size_t Rank>
  static auto numbers(const char* what, In x) {
    return view<const T, Rank>(what, x);
  }
  template <std::size_t Rank>
  static auto results(const char* what, In x) {
    return view<T, Rank>(what, x);
  }
  /// @throws ValueError if the gradient of a tensor is asked for that is not there.
  static In gradient(const char* what, In x, In of) {
    if (x != nullptr && of == nullptr)
      throw ValueError("heed_variant.", what, ": there is no tensor that it would be of");
    return x;
  }

  auto scale() const {
    return when(v_.scale == 0, standard) | when(v_.scale != 0, scaled(v_.scale));
  }
  auto alibis() const {
    return when(v_.alibi != 0, heed::alibi()) |
           when(bool(slopes_), heed::alibi(slopes_).grad(grad_slopes_));
  }

  const heed_variant& v_;
  View<const std::int64_t, 1> query_offsets_, lengths_, starts_;
  View<const std::int64_t, 2> documents_;
  View<const std::uint8_t, 4> mask_;
  View<const T, 4> bias_;
  View<const T, 1> sinks_, slopes_;
  View<const T, 3> tau_q_, tau_k_, tau_v_;
  View<const T, 2> carry_in_, grad_carry_out_, grad_memory_;
  View<T, 2> carry_out_, memory_, grad_carry_in_;
  View<T, 3> mask_f_, grad_tau_q_, grad_tau_k_, grad_tau_v_;
  View<T, 4> grad_bias_;
  View<T, 1> grad_sinks_, grad_slopes_;
};

}  // namespace heed::inline HEED_ABI::c_interface
