// SPDX-License-Identifier: MIT
/// @file Scratch memory, taken once a call and kept between calls if the caller wishes.
#pragma once

#include "heed/core/memory.hpp"
#include "heed/core/views.hpp"

#include <cstdint>
#include <limits>
#include <memory>
#include <utility>

namespace heed::inline HEED_ABI {

/// Memory that calls carve up from the front. Grows to the largest call it has served and is kept
/// until destroyed; one call at a time may use it.
class Workspace {
 public:
  static constexpr std::size_t alignment = detail::cache_line;

  Workspace() = default;
  Workspace(Workspace&& o) noexcept
      : memory_(std::move(o.memory_)), bytes_(std::exchange(o.bytes_, 0)) {}
  Workspace& operator=(Workspace&& o) noexcept {
    memory_ = std::move(o.memory_), bytes_ = std::exchange(o.bytes_, 0);
    return *this;
  }

  std::size_t bytes() const { return bytes_; }

  /// At least this many bytes, contents unspecified.
  std::byte* reserve(std::size_t bytes) {
    if (bytes > bytes_) {
      memory_.reset(), bytes_ = 0;  // before the new block: the two never stand together
      memory_ = {static_cast<std::byte*>(detail::allocate(bytes)), Release{bytes}};
      bytes_ = bytes;
    }
    return memory_.get();
  }

 private:
  struct Release {
    std::size_t bytes;
    void operator()(std::byte* p) const noexcept { detail::release(p, bytes); }
  };
  std::unique_ptr<std::byte, Release> memory_;
  std::size_t bytes_ = 0;
};

/// Hands out aligned arrays from one block. Run once without memory it only measures: the same
/// code lays out the block and says how large it must be.
class Arena {
 public:
  Arena() = default;
  explicit Arena(std::byte* memory) : memory_(memory) {}

  template <class T>
  T* take(Index count) {
    static_assert(std::is_trivially_destructible_v<T>);
    T* result = memory_ ? reinterpret_cast<T*>(memory_ + used_) : nullptr;
    const std::size_t bytes = std::size_t(count) * sizeof(T);
    // What no memory holds stays so large: reserve() refuses it.
    used_ = count > largest / Index(sizeof(T)) || used_ > std::size_t(largest)
                ? std::size_t(-1)
                : used_ + (bytes + Workspace::alignment - 1) / Workspace::alignment *
                              Workspace::alignment;
    return result;
  }

  std::size_t used() const { return used_; }
  bool measuring() const { return memory_ == nullptr; }

 private:
  static constexpr Index largest = std::numeric_limits<Index>::max() / 2;

  std::byte* memory_ = nullptr;
  std::size_t used_ = 0;
};

}  // namespace heed::inline HEED_ABI
