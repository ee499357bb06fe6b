// SPDX-License-Identifier: MIT
/// @file
/// Eviction rules: the interface of a rule, and EvictionRule, which holds any rule as a value.
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

/// What a rule decides by. The buffer computes only what its rule needs.
enum class Evidence {
  age,      ///< The position only.
  votes,    ///< F, the selection mask. It is 0 without selection.
  weights,  ///< Softmax weights received. They are known only after a row has attended, therefore
            ///< KvOptions::chunk must be 1.
  keys,     ///< How similar the key is to those of the other tokens. KvOptions::chunk must be 1.
  window,  ///< Softmax weights that the last rows of a step gave. The rule acts when the step ends,
           ///< whatever KvOptions::when says; until then its tokens are held beyond the budget.
};

/// One held token, as a rule sees it.
template <class T>
struct HeldToken {
  Index position;
  T f;       ///< F of the next row, in natural units; 0 without selection.
  T weight;  ///< Weights received, summed over heads; 0 unless the rule's evidence is weights.
  /// Cosine of the angle between the key and the mean of the directions of all keys held, summed
  /// over key heads; 0 unless the rule's evidence is keys.
  T similarity;
};

/// An eviction rule gives each token a claim; the token with the largest claim is evicted.
/// detail::eviction_candidate() handles protected tokens, recent tokens and ties. A claim must be a
/// function of the token alone. It is also computed for empty slots, where it is ignored.
///
///     struct Mine {
///       static constexpr const char* name = "mine";
///       static constexpr Evidence evidence = Evidence::votes;
///       /// Number of newest tokens that stay if KvOptions::recent is not set.
///       Index recent(std::optional<Index> budget, Index protected_tokens) const { return 1; }
///       template <class T>
///       T claim(const HeldToken<T>& token) const { return token.f; }
///     };
///
/// A rule with Evidence::weights also defines `static constexpr double weights_kept`, the factor
/// applied to the weights received before a row adds its own: 1 gives the sum over rows, 0 the
/// newest row only. A rule with Evidence::window has members `Index rows`, how many of the last
/// rows count, and `Index kernel`: the weight of a token is the largest of so many around it.
template <class R>
concept RuleOfEviction = std::is_trivially_copyable_v<R> &&
    requires(const R& rule, const HeldToken<float>& single, const HeldToken<double>& wide,
             std::optional<Index> budget, Index protected_tokens) {
  { R::name } -> std::convertible_to<const char*>;
  { R::evidence } -> std::convertible_to<Evidence>;
  { rule.recent(budget, protected_tokens) } -> std::same_as<Index>;
  { rule.claim(single) } -> std::same_as<float>;
  { rule.claim(wide) } -> std::same_as<double>;
} &&(R::evidence != Evidence::weights ||
     requires {
       { R::weights_kept } -> std::convertible_to<double>;
     }) &&
    (R::evidence != Evidence::window || requires(const R& rule) {
      { rule.rows } -> std::convertible_to<Index>;
      { rule.kernel } -> std::convertible_to<Index>;
    });

/// The rows that a rule with Evidence::window looks at.
struct EvidenceWindow {
  Index rows = 0, kernel = 1;
};

namespace detail {

/// The slots of a sequence, as a rule sees them.
template <class T>
struct HeldTokens {
  const Index* position;  ///< [slots] negative: the slot is empty
  const T* carry;         ///< [slots] −F, in log2 units
  const T* weight;        ///< [slots] weights received or similarities, or null
  Index slots;
};

/// Type-erased interface of a rule: one static table per rule type.
struct RuleTable {
  const char* name;
  Evidence evidence;
  double weights_kept;
  EvidenceWindow (*window)(const void* rule);
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
    // Branch-free: an empty slot gets a claim too, which is ignored.
    const Index position = tokens.position[j] < 0 ? 0 : tokens.position[j];
    const bool keys = R::evidence == Evidence::keys;
    to[j] = r.claim(HeldToken<T>{position, -tokens.carry[j] * simd::ln2<T>, keys ? T(0) : weight,
                                 keys ? weight : T(0)});
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
    [](const void* rule) {
      if constexpr (R::evidence == Evidence::window)
        return EvidenceWindow{rule_at<R>(rule).rows, rule_at<R>(rule).kernel};
      else
        return EvidenceWindow{};
    },
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

/// Names of the built-in rules, kept for source compatibility.
enum class Evict {
  most_masked,     ///< heed::most_masked
  least_attended,  ///< heed::heavy_hitters
  oldest,          ///< heed::oldest
};

/// Any rule, as a value. Two are equal if their rules have the same type and compare equal, byte by
/// byte if the type has no operator==.
class EvictionRule {
 public:
  /// @throws ValueError if `name` is not an enumerator.
  EvictionRule(Evict name);  // NOLINT: implicit, for source compatibility

  template <RuleOfEviction R>
  EvictionRule(const R& rule) : table_(&detail::rule_table<R>) {  // NOLINT: implicit
    static_assert(sizeof(R) <= sizeof rule_ && alignof(R) <= alignof(std::max_align_t),
                  "heed: an eviction rule has room for 32 bytes of its own");
    std::memcpy(rule_, &rule, sizeof rule);
  }

  const char* name() const { return table_->name; }
  Evidence evidence() const { return table_->evidence; }
  bool uses_weights() const { return evidence() == Evidence::weights; }
  bool uses_keys() const { return evidence() == Evidence::keys; }
  /// Does it act when a step ends?
  bool uses_window() const { return evidence() == Evidence::window; }
  EvidenceWindow window() const { return table_->window(rule_); }
  /// Does the buffer compute a number for each token held?
  bool scores_tokens() const { return uses_weights() || uses_keys() || uses_window(); }
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
