// SPDX-License-Identifier: MIT
/// @file std::vector in memory that starts with a line of cache, and under a name of this
/// library's.
#pragma once

#include "heed/core/workspace.hpp"

#include <vector>

namespace heed::inline HEED_ABI {

/// Where one program has units for several instruction sets, std::vector<float>::resize bears one
/// name in all of them, and the linker keeps whichever it meets first. With this allocator each
/// has its own.
template <class T>
struct Allocator {
  using value_type = T;

  Allocator() = default;
  template <class U>
  Allocator(const Allocator<U>&) {}  // NOLINT: implicit, as containers want it

  static constexpr std::align_val_t alignment{Workspace::alignment};
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), alignment)); }
  void deallocate(T* p, std::size_t) noexcept { ::operator delete(p, alignment); }
  friend bool operator==(const Allocator&, const Allocator&) { return true; }
};

template <class T>
using Vector = std::vector<T, Allocator<T>>;

}  // namespace heed::inline HEED_ABI
