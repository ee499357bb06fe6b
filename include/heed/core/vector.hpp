// SPDX-License-Identifier: MIT
/// @file
/// std::vector with the library's allocator.
#pragma once

#include "heed/core/memory.hpp"

#include <vector>

namespace heed::inline HEED_ABI {

/// If a program has units for several instruction sets, std::vector<float>::resize has one name in
/// all of them, and the linker keeps an arbitrary body. This allocator's type, and so the name of
/// the function, differs between instruction sets.
template <class T>
struct Allocator {
  using value_type = T;

  Allocator() = default;
  template <class U>
  Allocator(const Allocator<U>&) {}  // NOLINT: implicit, as containers require

  T* allocate(std::size_t n) { return static_cast<T*>(detail::allocate(n * sizeof(T))); }
  void deallocate(T* p, std::size_t n) noexcept { detail::release(p, n * sizeof(T)); }
  friend bool operator==(const Allocator&, const Allocator&) { return true; }
};

template <class T>
using Vector = std::vector<T, Allocator<T>>;

}  // namespace heed::inline HEED_ABI
