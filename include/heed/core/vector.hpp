// SPDX-License-Identifier: MIT
/// @file std::vector in this library's memory, and under a name of its own.
#pragma once

#include "heed/core/memory.hpp"

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

  T* allocate(std::size_t n) { return static_cast<T*>(detail::allocate(n * sizeof(T))); }
  void deallocate(T* p, std::size_t n) noexcept { detail::release(p, n * sizeof(T)); }
  friend bool operator==(const Allocator&, const Allocator&) { return true; }
};

template <class T>
using Vector = std::vector<T, Allocator<T>>;

}  // namespace heed::inline HEED_ABI
