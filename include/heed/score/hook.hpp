// SPDX-License-Identifier: MIT
/// @file
/// How hooks are found in stages and called. A hook is used if the stage defines it; there are no
/// flags.
#pragma once

#include "heed/simd/exp2.hpp"

#include <concepts>
#include <type_traits>
#include <utility>

namespace heed::inline HEED_ABI::hook {

/// The stages of a variant as a type list. Chain and When specialise it; any other stage is a list
/// of one.
template <class... S>
struct StageList {};
template <class V>
struct StagesOf {
  using type = StageList<V>;
};
template <class V>
struct StagesOf<const V> : StagesOf<V> {};

/// Calls f(stage) for each active stage of a variant, first to last. A When that is off is skipped.
template <class V, class F>
HEED_INLINE constexpr void each_stage(V& variant, F&& f) {
  if constexpr (requires { variant.each_stage(f); })
    variant.each_stage(f);
  else
    f(variant);
}

/// The number of parts of a variant that adjoints traverse in reverse: the links of a chain, or 1.
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

/// Can the hook be called with these arguments, and does it return this type?
template <class H, class S, class Type>
inline constexpr bool fits = false;
template <class H, class S, class R, class... A>
inline constexpr bool fits<H, S, R(A...)> = requires(S& s, A... a) {
  { H::call(s, static_cast<A>(a)...) } -> std::same_as<R>;
};
template <class H, class S, class R, class... A>
inline constexpr bool fits<H, S, R(A...) const> = fits<H, const S, R(A...)>;

}  // namespace detail

/// Base of all hooks.
template <class H>
struct Hook {
  /// Does any stage of the variant define the hook, active or not?
  template <class V>
  static constexpr bool in = detail::any_defines<H>(typename StagesOf<V>::type{});

  /// Does any active stage define the hook?
  template <class V>
  static constexpr bool acts_in(const V& variant) {
    bool acts = false;
    each_stage(variant, [&](const auto& stage) {
      acts = acts || H::template defined_by<std::remove_cvref_t<decltype(stage)>>;
    });
    return acts;
  }
};

/// What the last active stage that defines a hook answers, or `none`.
template <class H, class V, class R, class... A>
constexpr R last_answer(V& variant, R none, const A&... a) {
  each_stage(variant, [&](auto& stage) {
    if constexpr (H::template defined_by<std::remove_cvref_t<decltype(stage)>>)
      none = H::call(stage, a...);
  });
  return none;
}

/// Is the answer of any active stage true? For a stage that does not define the hook the answer is
/// otherwise(stage).
template <class H, class V, class Otherwise>
constexpr bool any_answer(const V& variant, Otherwise&& otherwise) {
  bool any = false;
  each_stage(variant, [&](const auto& stage) {
    if constexpr (H::template defined_by<std::remove_cvref_t<decltype(stage)>>)
      any = any || H::call(stage);
    else
      any = any || otherwise(stage);
  });
  return any;
}

/// A hook that passes a value through all stages: x ← stage.hook(x, …).
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

/// A hook that is called on each stage that defines it.
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

/// Defines how HOOK finds its member function NAME. With a second base that has a member of that
/// name, the name is ambiguous if the stage has it too, whether as function, template or overload
/// set. check() rejects a member of another type than TYPE, in which T is the number type.
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
