// SPDX-License-Identifier: MIT
/// @file
/// How hooks are found in stages and called: what a stage defines is used, and nothing else says
/// so.
#pragma once

#include "heed/simd/exp2.hpp"

#include <concepts>
#include <type_traits>
#include <utility>

namespace heed::inline HEED_ABI::hook {

/// The stages of a variant. Chain and When specialise it; every other stage is its own only one.
template <class... S>
struct StageList {};
template <class V>
struct StagesOf {
  using type = StageList<V>;
};
template <class V>
struct StagesOf<const V> : StagesOf<V> {};

/// Calls f(stage) for every stage of a variant that is not switched off, first to last.
template <class V, class F>
HEED_INLINE constexpr void each_stage(V& variant, F&& f) {
  if constexpr (requires { variant.each_stage(f); })
    variant.each_stage(f);
  else
    f(variant);
}

/// The parts of a variant between which adjoints run backwards: the links of a chain, or itself.
template <class V>
inline constexpr std::size_t links = 1;
template <class V>
inline constexpr std::size_t links<const V> = links<V>;
template <std::size_t I, class V>
HEED_INLINE constexpr auto& link(V& variant) {
  if constexpr (requires { variant.template link<I>(); })
    return variant.template link<I>();
  else
    return variant;
}

namespace detail {

template <class H, class... S>
consteval bool any_defines(StageList<S...>) {
  return (H::template defined_by<S> || ...);
}

/// Can a hook be called with these arguments, and does it give what it should?
template <class H, class S, class Type>
inline constexpr bool fits = false;
template <class H, class S, class R, class... A>
inline constexpr bool fits<H, S, R(A...)> = requires(S& s, A... a) {
  { H::call(s, static_cast<A>(a)...) } -> std::same_as<R>;
};
template <class H, class S, class R, class... A>
inline constexpr bool fits<H, S, R(A...) const> = fits<H, const S, R(A...)>;

}  // namespace detail

/// What hooks of every kind have in common.
template <class H>
struct Hook {
  /// Does some stage of the variant define it, be it switched off?
  template <class V>
  static constexpr bool in = detail::any_defines<H>(typename StagesOf<V>::type{});

  /// Does a stage define it that is not switched off?
  template <class V>
  static constexpr bool acts_in(const V& variant) {
    bool acts = false;
    each_stage(variant, [&](const auto& stage) {
      acts = acts || H::template defined_by<std::remove_cvref_t<decltype(stage)>>;
    });
    return acts;
  }
};

/// Hands a value from stage to stage: x ← stage.hook(x, …).
template <class H>
struct Through : Hook<H> {
  template <class V, class X, class... A>
  HEED_INLINE constexpr X operator()(V& variant, X x, const A&... a) const {
    each_stage(
        variant, [&](auto& stage) __attribute__((always_inline)) {
          if constexpr (H::template defined_by<std::remove_cvref_t<decltype(stage)>>)
            x = H::call(stage, x, a...);
        });
    return x;
  }
};

/// Calls every stage that has the hook.
template <class H>
struct Each : Hook<H> {
  template <class V, class... A>
  HEED_INLINE constexpr void operator()(V& variant, A&&... a) const {
    each_stage(
        variant, [&](auto& stage) __attribute__((always_inline)) {
          if constexpr (H::template defined_by<std::remove_cvref_t<decltype(stage)>>)
            H::call(stage, a...);
        });
  }
};

}  // namespace heed::inline HEED_ABI::hook

/// Finds the hook HOOK by its NAME: whatever kind of member it is, a template or overloaded, the
/// name of a second base makes it ambiguous. check() refuses a member of that name that is not of
/// TYPE, in which T is the number type.
#define HEED_HOOK(HOOK, NAME, TYPE, TEXT)                                                    \
  struct Decoy {                                                                             \
    int NAME;                                                                                \
  };                                                                                         \
  template <class S>                                                                         \
  struct Both : S, Decoy {};                                                                 \
  template <class S>                                                                         \
  static constexpr bool defined_by = !requires {                                             \
    &Both<S>::NAME;                                                                          \
  };                                                                                         \
  template <class S, class... A>                                                             \
  HEED_INLINE static constexpr auto call(S& stage, A&&... a)                                 \
      ->decltype(stage.NAME(std::forward<A>(a)...)) {                                        \
    return stage.NAME(std::forward<A>(a)...);                                                \
  }                                                                                          \
  template <class S, class T>                                                                \
  static consteval bool check() {                                                            \
    if constexpr (defined_by<S>)                                                             \
      static_assert(detail::fits<HOOK, S, TYPE>,                                             \
                    "heed: a hook of a stage has the wrong signature; it should be: " TEXT); \
    return true;                                                                             \
  }
