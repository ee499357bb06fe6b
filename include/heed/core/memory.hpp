// SPDX-License-Identifier: MIT
/// @file Memory that starts with a line of cache and, where there is much of it, lies in huge
/// pages.
#pragma once

#include "heed/core/abi.hpp"

#include <cstddef>
#include <limits>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace heed::inline HEED_ABI::detail {

/// A line of cache, and the widest register.
inline constexpr std::size_t cache_line = 64;
inline constexpr std::size_t huge_page = std::size_t(2) << 20;

inline std::align_val_t alignment_of(std::size_t bytes) noexcept {
  return std::align_val_t{bytes < huge_page ? cache_line : huge_page};
}

/// Contents unspecified. Throws std::bad_alloc.
inline void* allocate(std::size_t bytes) {
  // operator new may round a larger number up to 0.
  if (bytes > std::numeric_limits<std::size_t>::max() / 2) throw std::bad_alloc();
  void* memory = ::operator new(bytes, alignment_of(bytes));
#ifdef MADV_HUGEPAGE
  // A wish: what reads from everywhere, or few bits a number, waits for pages to be found. For
  // whole pages only: the rest of the last would become resident with it.
  if (bytes >= huge_page) ::madvise(memory, bytes / huge_page * huge_page, MADV_HUGEPAGE);
#endif
  return memory;
}

/// What allocate(bytes) returned.
inline void release(void* memory, std::size_t bytes) noexcept {
  ::operator delete(memory, alignment_of(bytes));
}

}  // namespace heed::inline HEED_ABI::detail
