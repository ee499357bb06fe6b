// SPDX-License-Identifier: MIT
/// @file
/// Scratch memory: allocated once per call, or kept by the caller between calls.
#pragma once

#include "heed/core/memory.hpp"
#include "heed/core/views.hpp"

#include <cstdint>
#include <limits>
#include <memory>
#include <utility>

namespace heed::inline HEED_ABI {

/// A block of memory that calls divide into arrays. It grows to the size of the largest call and is
/// freed by the destructor. One call at a time may use it.
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

  /// Returns at least this many bytes, uninitialized.
  std::byte* reserve(std::size_t bytes) {
    if (bytes > bytes_) {
      memory_.reset(), bytes_ = 0;  // freed first, so that the two blocks never coexist
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

/// Allocates aligned arrays from one block. Without memory it only adds up their sizes, so the same
/// code first measures the block and then lays it out.
class Arena {
 public:
  Arena() = default;
  explicit Arena(std::byte* memory) : memory_(memory) {}

  template <class T>
  T* take(Index count) {
    static_assert(std::is_trivially_destructible_v<T>);
    T* result = memory_ ? reinterpret_cast<T*>(memory_ + used_) : nullptr;
    const std::size_t bytes = std::size_t(count) * sizeof(T);
    // A size that no memory holds stays at the maximum, so that reserve() rejects it.
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

namespace detail {

/// Calls layout(arena) twice: to measure, and on the memory of the workspace. Returns what the
/// second call does.
template <class Layout>
auto lay_out(Workspace& workspace, const Layout& layout) {
  Arena measure;
  layout(measure);
  Arena arena(workspace.reserve(measure.used()));
  return layout(arena);
}

}  // namespace detail
}  // namespace heed::inline HEED_ABI
