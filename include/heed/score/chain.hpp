// SPDX-License-Identifier: MIT
/// @file
/// Stages joined by `|`.
#pragma once

#include "heed/score/hooks.hpp"

namespace heed::inline HEED_ABI {

/// The place of a stage in the pipeline. Ranks must not decrease along `a | b | c`: a selection
/// before the mask would count masked keys, a cap after the mask would make them visible again.
enum class Rank { place, rescale, scale, cap, bias, mask, scan, weight };

/// A stage, or a chain of stages, which has the ranks of its first and last one.
template <class S>
concept Stage = std::copy_constructible<S> && requires {
  { S::first_rank } -> std::convertible_to<Rank>;
  { S::last_rank } -> std::convertible_to<Rank>;
};

/// The stage, bound to one call. A stage that needs tensors of the number type of the call, or
/// scratch memory, defines bind<T>(problem, arena). Other stages are returned unchanged.
template <class T, Stage S>
auto bound(const S& stage, const Problem& problem, Arena& arena) {
  if constexpr (requires { stage.template bind<T>(problem, arena); })
    return stage.template bind<T>(problem, arena);
  else
    return stage;
}
template <class T, Stage S>
using BoundOf = decltype(bound<T>(std::declval<const S&>(), std::declval<const Problem&>(),
                                  std::declval<Arena&>()));

namespace detail {

/// The I-th stage of a chain. A base class, so that a chain is an aggregate of its stages.
template <std::size_t I, class S>
struct Link {
  S stage;
};

template <class Indices, Stage... S>
struct Links;
template <std::size_t... I, Stage... S>
struct Links<std::index_sequence<I...>, S...> : Link<I, S>... {
  static constexpr std::size_t count = sizeof...(S);
  static constexpr Rank first_rank = (std::min)({S::first_rank...}),
                        last_rank = (std::max)({S::last_rank...});

  template <std::size_t At>
  HEED_INLINE constexpr auto& link() {
    return stage_at<At>(*this);
  }
  template <std::size_t At>
  HEED_INLINE constexpr const auto& link() const {
    return stage_at<At>(*this);
  }

  template <class F>
  HEED_INLINE constexpr void each_stage(F&& f) {
    (hook::each_stage(static_cast<Link<I, S>&>(*this).stage, f), ...);
  }
  template <class F>
  HEED_INLINE constexpr void each_stage(F&& f) const {
    (hook::each_stage(static_cast<const Link<I, S>&>(*this).stage, f), ...);
  }

 private:
  template <std::size_t At, class X>
  HEED_INLINE static constexpr X& stage_at(Link<At, X>& link) {
    return link.stage;
  }
  template <std::size_t At, class X>
  HEED_INLINE static constexpr const X& stage_at(const Link<At, X>& link) {
    return link.stage;
  }
};

}  // namespace detail

template <Stage... S>
struct Chain;

namespace detail {

template <Stage S>
constexpr Chain<S> as_chain(const S& stage) {
  return {{{stage}}};
}
template <Stage... S>
constexpr const Chain<S...>& as_chain(const Chain<S...>& chain) {
  return chain;
}
template <Stage... A, Stage... B, std::size_t... I, std::size_t... J>
constexpr Chain<A..., B...> joined(const Chain<A...>& a, const Chain<B...>& b,
                                   std::index_sequence<I...>, std::index_sequence<J...>) {
  return {{{a.template link<I>()}..., {b.template link<J>()}...}};
}
template <Stage... A, Stage... B>
constexpr Chain<A..., B...> joined(const Chain<A...>& a, const Chain<B...>& b) {
  return joined(a, b, std::index_sequence_for<A...>(), std::index_sequence_for<B...>());
}

}  // namespace detail

/// Stages in order; made by `|`.
template <Stage... S>
struct Chain : detail::Links<std::index_sequence_for<S...>, S...> {
  template <class T>
  auto bind(const Problem& p, Arena& arena) const {
    return bind_from<T, 0>(p, arena);
  }

 private:
  /// In order, since stages allocate from the arena. A stage may bind to a chain.
  template <class T, std::size_t I>
  auto bind_from(const Problem& p, Arena& arena) const {
    const auto first = bound<T>(this->template link<I>(), p, arena);
    if constexpr (I + 1 == sizeof...(S))
      return std::remove_cvref_t<decltype(detail::as_chain(first))>(detail::as_chain(first));
    else
      return detail::joined(detail::as_chain(first), bind_from<T, I + 1>(p, arena));
  }
};

namespace hook {

namespace detail {
template <class... List>
struct Concatenated;
template <class... A>
struct Concatenated<StageList<A...>> {
  using type = StageList<A...>;
};
template <class... A, class... B, class... Rest>
struct Concatenated<StageList<A...>, StageList<B...>, Rest...>
    : Concatenated<StageList<A..., B...>, Rest...> {};
}  // namespace detail

template <Stage... S>
struct StagesOf<Chain<S...>> : detail::Concatenated<typename StagesOf<S>::type...> {};
template <Stage... S>
inline constexpr std::size_t links<Chain<S...>> = sizeof...(S);

}  // namespace hook

/// `a | b`: first a, then b. Does not compile if b has a lower rank than a, or if both scan the
/// rows.
template <Stage A, Stage B>
constexpr auto operator|(const A& a, const B& b) {
  static_assert(
      A::last_rank <= B::first_rank,
      "heed: stages are out of order. The order is: query_offset | temperatures | standard "
      "or scaled | softcap | bias, alibi, score_rule | masks, sinks | selective | dropout");
  static_assert(!(A::last_rank == Rank::scan && B::first_rank == Rank::scan),
                "heed: at most one stage may scan the rows");
  return detail::joined(detail::as_chain(a), detail::as_chain(b));
}

}  // namespace heed::inline HEED_ABI
