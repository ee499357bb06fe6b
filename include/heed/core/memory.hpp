// SPDX-License-Identifier: MIT
/// @file
/// Memory aligned to cache lines; large blocks are aligned to huge pages and request them.
#pragma once

#include "heed/core/abi.hpp"

#include <cstddef>
#include <limits>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace heed::inline HEED_ABI::detail {

/// The size of a cache line, and of the widest register.
inline constexpr std::size_t cache_line = 64;
inline constexpr std::size_t huge_page = std::size_t(2) << 20;

inline std::align_val_t alignment_of(std::size_t bytes) noexcept {
  return std::align_val_t{bytes < huge_page ? cache_line : huge_page};
}

/// Allocates uninitialized memory. Throws std::bad_alloc.
inline void* allocate(std::size_t bytes) {
  // operator new may round a larger size up, past the maximum, to 0.
  if (bytes > std::numeric_limits<std::size_t>::max() / 2) throw std::bad_alloc();
  void* memory = ::operator new(bytes, alignment_of(bytes));
#ifdef MADV_HUGEPAGE
  // A hint only, since the call may fail. Scattered or low-precision reads are bound by TLB misses.
  // It covers whole huge pages only, or the tail of the last page would become resident as well.
  if (bytes >= huge_page) ::madvise(memory, bytes / huge_page * huge_page, MADV_HUGEPAGE);
#endif
  return memory;
}

/// Frees the memory that allocate(bytes) returned.
inline void release(void* memory, std::size_t bytes) noexcept {
  ::operator delete(memory, alignment_of(bytes));
}

}  // namespace heed::inline HEED_ABI::detail
