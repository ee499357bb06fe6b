// SPDX-License-Identifier: MIT
/// @file
/// The first bytes of a sequence's file: see kv_file.hpp.
#pragma once

#include "heed/core/check.hpp"
#include "heed/core/checked_file.hpp"
#include "heed/kv/kv_move.hpp"
#include "heed/score/votes.hpp"

#include <optional>

namespace heed::inline HEED_ABI::detail {

/// What is in front of the tokens.
struct KvFileHeader {
  static constexpr char right_magic[9] = "heed KV\n";
  static constexpr std::uint32_t right_order = 0x01020304, last_version = 2;

  char magic[8] = {}, arithmetic[16] = {}, storage[16] = {}, rule[64] = {};
  std::uint32_t order = right_order, version = 1, select = 0, evidence = 0;
  double weights_kept = 0;
  std::int64_t heads = 0, key_heads = 0, dim = 0, value_dim = 0, select_head = 0, parts = 0,
               next = 0, budget = -1;
  KvTurning turning{};  ///< from version 2 on

  template <class File>
  void begin(File& file) {
    file.text(magic), file.number(order), file.number(version);
  }
  template <class File>
  void rest(File& file) {
    file.text(arithmetic), file.text(storage), file.text(rule), file.number(weights_kept);
    file.number(heads), file.number(key_heads), file.number(dim), file.number(value_dim);
    file.number(select_head), file.number(select), file.number(evidence);
    file.number(parts), file.number(next), file.number(budget);
    if (version >= 2) {
      file.number(turning.dims), file.number(turning.pairs);
      file.number(turning.factor), file.number(turning.frequencies);
    }
    file.sum();
  }

  void set_turning(const KvTurning& x) {
    turning = x;
    if (turning.dims > 0) version = 2;
  }
  void set_selection(const std::optional<SelectOptions>& o) {
    if (!o) return;
    select_head = o->head;
    select = 1U | unsigned(o->relu) << 1 | unsigned(o->protect_first) << 2 |
             unsigned(o->forbid_self) << 3 | unsigned(o->accumulate) << 4 | unsigned(o->shift) << 5;
  }
  std::optional<SelectOptions> selection() const {
    const auto bit = [&](int i) { return (select >> i & 1U) != 0; };
    if (select >= 64 || (!bit(0) && (select != 0 || select_head != 0)))
      throw FileError("the file has selection options ", select, " of head ", select_head,
                      ", of which none are known");
    if (!bit(0)) return std::nullopt;
    return SelectOptions{size("select->head", select_head), bit(1), bit(2), bit(3), bit(4), bit(5)};
  }
  static Index size(const char* what, std::int64_t x) {
    if (x < 0 || x > std::int64_t(max_bytes))
      throw FileError("the file says ", what, " ", x, ", must be 0 … ", max_bytes);
    return Index(x);
  }
};

}  // namespace heed::inline HEED_ABI::detail
