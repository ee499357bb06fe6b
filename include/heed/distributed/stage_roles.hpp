// SPDX-License-Identifier: MIT
/// @file
/// Which stages a distributed call can take apart, and into what.
#pragma once

#include "heed/score/selective.hpp"
#include "heed/score/when.hpp"

namespace heed::inline HEED_ABI::distributed::detail {

template <class S>
inline constexpr bool is_selective = std::is_same_v<S, Selective>;
template <class T>
inline constexpr bool is_selective<SelectiveWith<T>> = true;
template <class... S>
consteval bool are_selective(hook::StageList<S...>) {
  return (is_selective<S> && ...);
}

/// What a stage S does with numbers of type T. Distributed calls apply the roles apart: factors
/// before the keys are sent, masks as an interval of keys for each row, the sink to the merged
/// result; scores and the scan in the calls on parts of the keys. So a stage may have one role
/// only.
template <class T, class S>
struct StageRole {
  using Bound = BoundOf<T, S>;
  static constexpr bool rescales = hook::QueryFactor::in<Bound> || hook::KeyFactor::in<Bound> ||
                                   hook::ValueFactor::in<Bound>,
                        masks = hook::Keys::in<Bound>, sinks = hook::Sink::in<Bound>,
                        scores = hook::Score::in<Bound>, scans = hook::ScanTile::in<Bound>;

  /// Tensors and random numbers that are addressed by pairs would need parts of them.
  static constexpr bool composes() {
    if (int(rescales) + int(masks) + int(sinks) + int(scores) + int(scans) > 1) return false;
    if constexpr (scans) return are_selective(typename hook::StagesOf<S>::type());
    if constexpr (scores)
      if (hook::reads < Bound >> Reads::distance) return false;
    return !hook::Visible::in<Bound> && !hook::MaskOfBlock::in<Bound> && !hook::Weight::in<Bound> &&
           !hook::Begin::in<Bound> && !hook::End::in<Bound>;
  }
};

/// @throws ValueError if an active stage does not compose with distributed calls.
template <class T, Stage V>
void expect_composable(const V& variant) {
  hook::each_stage(variant, []<class S>(const S&) {
    if constexpr (!StageRole<T, S>::composes())
      throw ValueError(
          "distributed: a stage addresses pairs of tokens, or does several things at once: bias, "
          "boolean_mask, alive, dropout, largest_score and some stages of your own cannot be "
          "divided among ranks");
  });
}

/// Stands where a variant has no stage of a role.
struct NoStage : StageOf<Rank::weight> {};

enum class Does { rescale, mask, sink, score };

/// Takes the stages that do one thing.
template <class T, Does What>
struct That {
  template <class S>
  static constexpr bool takes = StageRole<T, S>::composes() &&
                                (What == Does::rescale ? StageRole<T, S>::rescales
                                 : What == Does::mask  ? StageRole<T, S>::masks
                                 : What == Does::sink  ? StageRole<T, S>::sinks
                                                       : StageRole<T, S>::scores);
};
template <class T>
using ThatRescale = That<T, Does::rescale>;
template <class T>
using ThatMask = That<T, Does::mask>;
template <class T>
using ThatHaveSinks = That<T, Does::sink>;
template <class T>
using ThatScore = That<T, Does::score>;

/// Of the links of a variant those that Choice takes, each through change(), before `tail`.
template <class Choice, std::size_t I = 0, Stage V, Stage Tail, class Change>
constexpr auto chosen(const V& variant, const Tail& tail, Change&& change) {
  if constexpr (I == hook::links<V>) {
    return std::remove_cvref_t<decltype(heed::detail::as_chain(tail))>(
        heed::detail::as_chain(tail));
  } else {
    const auto& link = hook::link<I>(variant);
    if constexpr (Choice::template takes<std::remove_cvref_t<decltype(link)>>) {
      const auto changed = change(link);  // in order: gradients are counted off
      return heed::detail::joined(heed::detail::as_chain(changed),
                                  chosen<Choice, I + 1>(variant, tail, change));
    } else {
      return chosen<Choice, I + 1>(variant, tail, change);
    }
  }
}
template <class Choice, Stage V>
constexpr auto chosen(const V& variant) {
  return chosen<Choice>(variant, NoStage(), [](const auto& stage) { return stage; });
}

/// What a variant selects with, taken from its selective stage.
template <class T>
struct Selection {
  bool active = false;
  SelectOptions options;
  SelectTensors<T> tensors;

  template <Stage V>
  static Selection of(const V& variant) {
    Selection s;
    hook::each_stage(variant, [&]<class S>(const S& stage) {
      if constexpr (StageRole<T, S>::scans && StageRole<T, S>::composes()) {
        s.active = true, s.options = stage.options;
        if constexpr (!std::is_same_v<S, Selective>) s.tensors = stage.tensors;
      }
    });
    return s;
  }

  /// @throws ValueError if F cannot be computed chunk by chunk.
  void check() const {
    if (!active) return;
    if (!options.accumulate)
      throw ValueError("distributed: selection must accumulate, F is summed over the chunks");
    const auto& t = tensors;
    if (t.carry_in || t.carry_out || t.mask_f || t.projection.queries || t.protected_keys ||
        t.grad_carry_in || t.grad_carry_out || t.grad_projection.queries)
      throw ValueError(
          "distributed: of selective's tensors only memory and grad_memory can be divided among "
          "ranks");
  }
};

}  // namespace heed::inline HEED_ABI::distributed::detail
