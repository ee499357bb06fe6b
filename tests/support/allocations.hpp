// SPDX-License-Identifier: MIT
/// @file
/// Counts what is taken from the heap, by new, malloc or Eigen. It replaces malloc, so one
/// source file of a program may include it. Where malloc is not ours to replace (sanitizers, other
/// C libraries) `allocations_are_counted` is false.
#pragma once

#include "support/sanitizers.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <utility>

#if defined(__linux__) && !defined(HEED_TEST_SANITIZED)
#include <malloc.h>
#include <stdlib.h>
#if defined(__x86_64__)
#include <mm_malloc.h>  // clang's declares posix_memalign once more, and must do so first
#endif
#endif

namespace heed::test {

struct Allocations {
  std::size_t count = 0;  // calls
  std::size_t bytes = 0;  // taken, all calls together
  std::size_t peak = 0;   // held at once, above what was held before
};

namespace detail {

inline std::atomic<bool> counting{false};
inline std::atomic<std::size_t> count{0}, bytes{0};
inline std::atomic<std::ptrdiff_t> held{0}, peak{0};
inline std::atomic<bool> rationed{false};
inline std::atomic<std::ptrdiff_t> left{0};

/// Has memory run out?
inline bool refused() {
  return rationed && left.fetch_sub(1) <= 0;
}

inline void note_taken(std::size_t size) {
  if (!counting) return;
  count += 1;
  bytes += size;
  const std::ptrdiff_t now = held += std::ptrdiff_t(size);
  std::ptrdiff_t before = peak;
  while (before < now && !peak.compare_exchange_weak(before, now)) {
  }
}

inline void note_returned(std::size_t size) {
  if (counting) held -= std::ptrdiff_t(size);
}

}  // namespace detail

/// What `work()` takes, on all threads.
template <class Work>
Allocations allocations_of(Work&& work) {
  detail::count = detail::bytes = 0;
  detail::held = detail::peak = 0;
  detail::counting = true;
  std::forward<Work>(work)();
  detail::counting = false;
  return {detail::count, detail::bytes, std::size_t(std::max<std::ptrdiff_t>(detail::peak, 0))};
}

/// work(), whose first `count` calls for memory are answered and the others refused.
template <class Work>
void with_memory_for(std::size_t count, Work&& work) {
  struct Ration {
    explicit Ration(std::size_t n) {
      detail::left = std::ptrdiff_t(n);
      detail::rationed = true;
    }
    ~Ration() { detail::rationed = false; }
  } const ration(count);
  std::forward<Work>(work)();
}

#if defined(__GLIBC__) && !defined(HEED_TEST_SANITIZED)
constexpr bool allocations_are_counted = true;
#else
constexpr bool allocations_are_counted = false;
#endif

}  // namespace heed::test

#if defined(__GLIBC__) && !defined(HEED_TEST_SANITIZED)

// The GNU C library lets a program define these and keeps its own under the names below.
extern "C" {

void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);

void* malloc(std::size_t size) noexcept {
  if (heed::test::detail::refused()) return nullptr;
  void* p = __libc_malloc(size);
  if (p) heed::test::detail::note_taken(malloc_usable_size(p));
  return p;
}

void* calloc(std::size_t count, std::size_t size) noexcept {
  if (heed::test::detail::refused()) return nullptr;
  void* p = __libc_calloc(count, size);
  if (p) heed::test::detail::note_taken(malloc_usable_size(p));
  return p;
}

void* realloc(void* old, std::size_t size) noexcept {
  if (heed::test::detail::refused()) return nullptr;
  if (old) heed::test::detail::note_returned(malloc_usable_size(old));
  void* p = __libc_realloc(old, size);
  if (p) heed::test::detail::note_taken(malloc_usable_size(p));
  return p;
}

void* memalign(std::size_t alignment, std::size_t size) noexcept {
  if (heed::test::detail::refused()) return nullptr;
  void* p = __libc_memalign(alignment, size);
  if (p) heed::test::detail::note_taken(malloc_usable_size(p));
  return p;
}

void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  return memalign(alignment, size);
}

int posix_memalign(void** p, std::size_t alignment, std::size_t size) noexcept {
  *p = memalign(alignment, size);
  return *p ? 0 : 12;  // ENOMEM
}

void free(void* p) noexcept {
  if (p) heed::test::detail::note_returned(malloc_usable_size(p));
  __libc_free(p);
}

}  // extern "C"

#endif
