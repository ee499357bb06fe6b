// SPDX-License-Identifier: MIT
/// @file What decides which token a full buffer lets go: a rule, which is a value.
#pragma once

#include "heed/core/vector.hpp"
#include "heed/simd/exp2.hpp"

#include <concepts>
#include <cstddef>
#include <cstring>
#include <new>
#include <optional>
#include <type_traits>

namespace heed::inline HEED_ABI {

/// What a rule judges by. What it does not need is not computed.
enum class Evidence {
  age,      ///< The position alone.
  votes,    ///< F, which is there where something selects.
  weights,  ///< Softmax weights received. They are known once a row has attended, so that tokens go
            ///< one by one: KvOptions::chunk is 1.
};

/// What a rule may know of a token that the buffer holds.
template <class T>
struct HeldToken {
  Index position;
  T f;       ///< F of the next row, in natural units; 0 where nothing selects.
  T weight;  ///< Weights received, of all heads together, where the rule judges by weights; else 0.
};

/// A rule: the token with the largest claim goes. It does not ask whether a token is protected or
/// recent, and need not settle ties: see detail::victim(). A claim depends on the token alone, and
/// may be asked for where it does not matter.
///
///     struct Mine {
///       static constexpr const char* name = "mine";
///       static constexpr Evidence evidence = Evidence::votes;
///       /// So many of the last tokens stay where KvOptions::recent says nothing.
///       Index recent(std::optional<Index> budget, Index protected_tokens) const { return 1; }
///       template <class T>
///       T claim(const HeldToken<T>& token) const { return token.f; }
///     };
///
/// A rule that judges by weights says besides what is left of a token's weights when a row adds its
/// own, `static constexpr double weights_kept`: 1 for their sum, 0 for the newest row's alone.
template <class R>
concept RuleOfEviction = std::is_trivially_copyable_v<R> &&
    requires(const R& rule, const HeldToken<float>& single, const HeldToken<double>& wide,
             std::optional<Index> budget, Index protected_tokens) {
  { R::name } -> std::convertible_to<const char*>;
  { R::evidence } -> std::convertible_to<Evidence>;
  { rule.recent(budget, protected_tokens) } -> std::same_as<Index>;
  { rule.claim(single) } -> std::same_as<float>;
  { rule.claim(wide) } -> std::same_as<double>;
} &&(R::evidence != Evidence::weights || requires {
  { R::weights_kept } -> std::convertible_to<double>;
});

namespace detail {

/// The slots of a sequence, as rules see them.
template <class T>
struct HeldTokens {
  const Index* position;  ///< [slots] negative where no token is
  const T* carry;         ///< [slots] −F, in log2 units
  const T* weight;        ///< [slots] or null
  Index slots;
};

/// What EvictionRule keeps of a rule's type.
struct RuleTable {
  const char* name;
  Evidence evidence;
  double weights_kept;
  Index (*recent)(const void* rule, std::optional<Index> budget, Index protected_tokens);
  void (*claims)(const void* rule, const HeldTokens<float>&, float* to);
  void (*wide_claims)(const void* rule, const HeldTokens<double>&, double* to);
  bool (*equal)(const void* one, const void* other);
};

template <class R>
const R& rule_at(const void* rule) {
  return *std::launder(static_cast<const R*>(rule));
}

template <class R, class T>
void rule_claims(const void* rule, const HeldTokens<T>& tokens, T* to) {
  const R& r = rule_at<R>(rule);
  const auto claim = [&](Index j, T weight) {
    // A slot without a token claims too, without a branch, and is not looked at.
    const Index position = tokens.position[j] < 0 ? 0 : tokens.position[j];
    to[j] = r.claim(HeldToken<T>{position, -tokens.carry[j] * simd::ln2<T>, weight});
  };
  if (tokens.weight != nullptr)
    for (Index j = 0; j < tokens.slots; ++j) claim(j, tokens.weight[j]);
  else
    for (Index j = 0; j < tokens.slots; ++j) claim(j, T(0));
}

template <class R>
constexpr double rule_weights_kept() {
  if constexpr (R::evidence == Evidence::weights)
    return R::weights_kept;
  else
    return 0;
}

template <class R>
inline constexpr RuleTable rule_table{
    R::name,
    R::evidence,
    rule_weights_kept<R>(),
    [](const void* rule, std::optional<Index> budget, Index protected_tokens) {
      return rule_at<R>(rule).recent(budget, protected_tokens);
    },
    rule_claims<R, float>,
    rule_claims<R, double>,
    [](const void* one, const void* other) {
      if constexpr (std::equality_comparable<R>)
        return rule_at<R>(one) == rule_at<R>(other);
      else
        return std::memcmp(one, other, sizeof(R)) == 0;
    }};

}  // namespace detail

/// The rules there are, by the names they had when they were no values.
enum class Evict {
  most_masked,     ///< heed::most_masked
  least_attended,  ///< heed::heavy_hitters
  oldest,          ///< heed::oldest
};

/// Any rule, as KvOptions holds it. Copies are equal; so are rules of one type that compare equal.
class EvictionRule {
 public:
  /// @throws ValueError if the number names no rule.
  EvictionRule(Evict name);  // NOLINT: implicit, so that options can be written as before

  template <RuleOfEviction R>
  EvictionRule(const R& rule) : table_(&detail::rule_table<R>) {  // NOLINT: implicit
    static_assert(sizeof(R) <= sizeof rule_ && alignof(R) <= alignof(std::max_align_t),
                  "heed: an eviction rule has room for 32 bytes of its own");
    std::memcpy(rule_, &rule, sizeof rule);
  }

  const char* name() const { return table_->name; }
  Evidence evidence() const { return table_->evidence; }
  bool judges_by_weights() const { return evidence() == Evidence::weights; }
  double weights_kept() const { return table_->weights_kept; }
  Index recent(std::optional<Index> budget, Index protected_tokens) const {
    return table_->recent(rule_, budget, protected_tokens);
  }
  void claims(const detail::HeldTokens<float>& tokens, float* to) const {
    table_->claims(rule_, tokens, to);
  }
  void claims(const detail::HeldTokens<double>& tokens, double* to) const {
    table_->wide_claims(rule_, tokens, to);
  }

  friend bool operator==(const EvictionRule& a, const EvictionRule& b) {
    return a.table_ == b.table_ && a.table_->equal(a.rule_, b.rule_);
  }

 private:
  const detail::RuleTable* table_;
  alignas(std::max_align_t) std::byte rule_[32] = {};
};

}  // namespace heed::inline HEED_ABI
