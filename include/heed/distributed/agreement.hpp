// SPDX-License-Identifier: MIT
/// @file
/// One small exchange before anything else: do all ranks mean the same call?
#pragma once

#include "heed/distributed/collectives.hpp"

#include <array>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <new>

namespace heed::inline HEED_ABI::distributed::detail {

/// A number that almost surely differs if anything added to it differs.
class Digest {
 public:
  void add(std::uint64_t x) {
    state_ = (state_ ^ x) * 0x9e3779b97f4a7c15;
    state_ ^= state_ >> 29;
  }
  void add(double x) { add(std::bit_cast<std::uint64_t>(x)); }
  void add_text(const char* text) {
    for (; *text != 0; ++text) add(std::uint64_t(static_cast<unsigned char>(*text)));
  }
  Index value() const { return std::bit_cast<Index>(state_); }

 private:
  std::uint64_t state_ = 0x243f6a8885a308d3;
};

/// What all ranks must give alike, or why a rank cannot begin.
struct CallRecord {
  enum Field {
    number_bytes,
    passes,
    batch,
    heads,
    key_heads,
    dim,
    value_dim,
    tokens,
    shards,
    variant,
    masks,
    parameters,
    selection,
    tensors,
    options,
    fields
  };
  enum Refusal : std::int32_t { none, shape, value, memory, other };

  std::array<Index, fields> field{};
  std::int32_t refusal = none;
  char reason[508] = "";

  void refuse(Refusal kind, const char* text) {
    refusal = kind;
    std::snprintf(reason, sizeof reason, "%s", text);
  }
  /// Stores the exception that is being handled.
  void refuse_by_current_exception() {
    try {
      throw;
    } catch (const ShapeError& e) {
      refuse(shape, e.what());
    } catch (const ValueError& e) {
      refuse(value, e.what());
    } catch (const std::bad_alloc&) {
      refuse(memory, "out of memory");
    } catch (const std::exception& e) {
      refuse(other, e.what());
    } catch (...) {
      refuse(other, "an exception of an unknown type");
    }
  }

  /// What a field is called, and whether its number says something to a reader.
  struct Name {
    const char* text;
    bool readable;
  };
  static Name name(int field) {
    constexpr std::array<Name, fields> names{{{"bytes a number", true},
                                              {"passes (1 forward, 2 backward)", true},
                                              {"batch entries", true},
                                              {"query heads", true},
                                              {"key heads", true},
                                              {"dim of q and k", true},
                                              {"dim of v", true},
                                              {"tokens of the sharding", true},
                                              {"the chunks of the sharding", false},
                                              {"the type of the variant", false},
                                              {"which keys its rows see", false},
                                              {"the numbers of its stages", false},
                                              {"how it selects", false},
                                              {"which tensors are given", false},
                                              {"Options::negligible", false}}};
    return names[std::size_t(field)];
  }
};

/// Compares the records of all ranks. Every rank throws the same message.
/// @throws ShapeError, ValueError, std::bad_alloc or CommunicationError if a rank cannot begin;
/// ValueError if two differ.
template <class G>
void agree(Channel<G>& channel, const CallRecord& own) {
  const std::size_t size = std::size_t(channel.size());
  Vector<CallRecord> all(size);
  all_gather(channel, &own, Vector<Index>(size, 1), all.data());
  for (std::size_t r = 0; r < size; ++r) {
    const char* const reason = all[r].reason;
    switch (all[r].refusal) {
      case CallRecord::none:
        break;
      case CallRecord::shape:
        throw ShapeError("rank ", Index(r), ": ", reason);
      case CallRecord::value:
        throw ValueError("rank ", Index(r), ": ", reason);
      case CallRecord::memory:
        throw std::bad_alloc();
      default:
        throw CommunicationError("rank ", Index(r), ": ", reason);
    }
  }
  for (std::size_t r = 1; r < size; ++r)
    for (int f = 0; f < CallRecord::fields; ++f) {
      const Index first = all[0].field[std::size_t(f)], other = all[r].field[std::size_t(f)];
      if (first == other) continue;
      const CallRecord::Name name = CallRecord::name(f);
      if (name.readable)
        throw ValueError("distributed: ", name.text, ": ", first, " on rank 0, ", other,
                         " on rank ", Index(r));
      throw ValueError("distributed: rank 0 and rank ", Index(r), " differ in ", name.text);
    }
}

}  // namespace heed::inline HEED_ABI::distributed::detail
