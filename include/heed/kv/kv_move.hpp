// SPDX-License-Identifier: MIT
/// @file
/// Sequences that continue in another cache.
#pragma once

#include "heed/core/checked_file.hpp"
#include "heed/kv/kv_config.hpp"

namespace heed::inline HEED_ABI::detail {

/// How a cache turns keys, as a file has it.
struct KvTurning {
  Index dims = 0;  ///< 0: keys are read as they are given
  std::uint32_t pairs = 0;
  double factor = 0;
  std::uint64_t frequencies = 0;  ///< their FNV-1a, little-endian

  KvTurning() = default;
  KvTurning(const std::optional<KvRotary>& rotary) {  // NOLINT: implicit
    if (!rotary) return;
    dims = rotary->dims(), pairs = std::uint32_t(rotary->pairs());
    factor = rotary->attention_factor();
    Fnv1a sum;
    for (Index i = 0; i < dims / 2; ++i) {
      std::byte bytes[sizeof(double)];
      std::memcpy(bytes, &rotary->frequencies()(i), sizeof bytes);
      to_or_from_little_endian(bytes, sizeof bytes);
      sum.add(bytes, sizeof bytes);
    }
    frequencies = sum.value();
  }
  bool operator==(const KvTurning&) const = default;
};

/// @throws ValueError unless a sequence and the cache that it should go to turn keys alike.
inline void check_turning(const KvTurning& from, const KvTurning& to) {
  if (from != to)
    throw ValueError("the sequence has keys of which the buffer turns ", from.dims,
                     " numbers (pairs ", from.pairs, ", factor ", from.factor,
                     ", frequencies of checksum ", from.frequencies,
                     "), the buffer it should go to turns ", to.dims, " (", to.pairs, ", ",
                     to.factor, ", ", to.frequencies, ")");
}

/// Checks that a sequence of cache `from` can continue in cache `to`. chunk, protect, when and
/// score_bound may differ: they affect later rows only, not the stored state. The number of query
/// heads may differ too, unless the stored F or weights depend on it.
/// @throws ShapeError, ValueError if it cannot, naming both sides.
inline void check_move(const KvShape& from, const KvOptions& from_options, const KvShape& to,
                       const KvOptions& to_options, Index tokens) {
  const bool apart = from_options.heads != KvHeads::together;
  if (apart != (to_options.heads != KvHeads::together))
    throw ValueError("key heads of the sequence hold ", apart ? "different" : "the same",
                     " tokens, those of the buffer it should go to ",
                     apart ? "the same" : "different", " ones");
  const bool weighs = to_options.evict.uses_weights();
  const bool heads_matter = to_options.select || weighs;
  if ((heads_matter && from.heads != to.heads) || from.key_heads != to.key_heads ||
      from.dim != to.dim || from.value_dim != to.value_dim)
    throw ShapeError("the sequence has ", from.heads, " query heads, ", from.key_heads,
                     " key heads, keys of ", from.dim, " and values of ", from.value_dim,
                     " numbers, the buffer it should go to ", to.heads, ", ", to.key_heads, ", ",
                     to.dim, " and ", to.value_dim);
  check_turning(from_options.rotary, to_options.rotary);
  const auto differ = [](const char* what, Index one, Index other) {
    throw ValueError("the sequence was made with ", what, " ", one,
                     ", the buffer it should go to has ", other, ": their F differ");
  };
  const std::optional<SelectOptions>&a = from_options.select, &b = to_options.select;
  if (a.has_value() != b.has_value()) differ("select", a.has_value(), b.has_value());
  if (a) {
    if (a->head != b->head) differ("select->head", a->head, b->head);
    if (a->relu != b->relu) differ("select->relu", a->relu, b->relu);
    if (a->protect_first != b->protect_first)
      differ("select->protect_first", a->protect_first, b->protect_first);
    if (a->forbid_self != b->forbid_self)
      differ("select->forbid_self", a->forbid_self, b->forbid_self);
    if (a->accumulate != b->accumulate) differ("select->accumulate", a->accumulate, b->accumulate);
    if (a->shift != b->shift) differ("select->shift", a->shift, b->shift);
  }
  if (weighs && (!from_options.evict.uses_weights() ||
                 from_options.evict.weights_kept() != to_options.evict.weights_kept()))
    throw ValueError("the buffer the sequence should go to evicts by ", to_options.evict.name(),
                     ", the buffer it is from by ", from_options.evict.name(),
                     ", which counted no such weights");
  if (to_options.budget && tokens > *to_options.budget)
    throw ValueError("the sequence holds ", tokens,
                     " tokens, the budget of the buffer it should "
                     "go to is ",
                     *to_options.budget);
}

}  // namespace heed::inline HEED_ABI::detail
