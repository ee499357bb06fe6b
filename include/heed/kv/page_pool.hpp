// SPDX-License-Identifier: MIT
/// @file
/// Pages of equal size with reference counts: the memory under KvPool.
#pragma once

#include "heed/core/error.hpp"
#include "heed/core/vector.hpp"
#include "heed/core/views.hpp"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cstring>
#include <mutex>
#include <new>
#include <stdexcept>
#include <utility>

namespace heed::inline HEED_ABI {

/// A pool of limited size has too few free pages for a step. Nothing has changed; the step can be
/// repeated after a sequence was closed.
struct OutOfPages : std::runtime_error {
  Index needed, free;  ///< pages that the step may need, and that are free

  OutOfPages(Index most, Index held, Index pages)
      : std::runtime_error(detail::Message("the pool has ", most, " pages, ", held,
                                           " are held, and ", pages, " more are needed")
                               .text()),
        needed(pages),
        free(most - held) {}
};

namespace detail {

class PagePool;

/// What is known of a page. It is not in the page, so that a step which asks for the references of
/// many pages reads few cache lines.
struct PageHeader {
  std::atomic<Index> references{0};
  std::byte* data = nullptr;
  PageHeader* next = nullptr;  ///< in a list of free or reserved pages
  PagePool* pool = nullptr;
};

/// Allocates pages in slabs, and keeps freed pages for later use. Thread-safe.
class PagePool {
 public:
  /// @param page_bytes  rounded up to cache lines.
  /// @param most        pages that the pool may have.
  /// @param overrun     bytes that may be read past the end of a page.
  PagePool(std::size_t page_bytes, Index most, std::size_t overrun)
      : page_bytes_((page_bytes + cache_line - 1) / cache_line * cache_line),
        overrun_(overrun),
        most_(most) {}
  ~PagePool() {
    for (const Slab& slab : slabs_) release(slab.memory, slab.bytes);
  }
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;

  std::size_t page_bytes() const { return page_bytes_; }
  /// The bytes that `pages` pages take, with their headers.
  static std::size_t slab_bytes(Index pages, std::size_t page_bytes, std::size_t overrun) {
    return header_bytes(pages) + std::size_t(pages) * page_bytes + overrun;
  }
  Index most() const { return most_; }
  /// Pages in use.
  Index held() const {
    const std::lock_guard lock(mutex_);
    return made_ - free_;
  }
  /// Bytes allocated.
  std::size_t bytes() const {
    const std::lock_guard lock(mutex_);
    return bytes_;
  }

  /// Allocates until `pages` pages are free. @throws OutOfPages, std::bad_alloc
  void reserve(Index pages) {
    const std::lock_guard lock(mutex_);
    provide(pages);
  }
  /// Takes `count` free pages, as a list. @throws OutOfPages, std::bad_alloc: none is taken then.
  PageHeader* take(Index count) {
    const std::lock_guard lock(mutex_);
    provide(count);
    PageHeader* list = nullptr;
    for (Index i = 0; i < count; ++i) {
      PageHeader* const page = list_;
      list_ = page->next, page->next = list, list = page;
    }
    free_ -= count;
    return list;
  }
  /// Returns a list of pages that nothing refers to.
  void give_back(PageHeader* list) noexcept {
    const std::lock_guard lock(mutex_);
    while (list != nullptr) {
      PageHeader* const next = list->next;
      list->next = list_, list_ = list, list = next;
      ++free_;
    }
  }

 private:
  static std::size_t header_bytes(Index pages) {
    return (std::size_t(pages) * sizeof(PageHeader) + cache_line - 1) / cache_line * cache_line;
  }

  struct Slab {
    void* memory;
    std::size_t bytes;
  };

  void provide(Index pages) {
    if (pages <= free_) return;
    if (pages - free_ > most_ - made_) throw OutOfPages(most_, made_ - free_, pages);
    // A quarter more than there are, so that a growing cache allocates rarely.
    const Index missing = pages - free_,
                count = std::clamp(made_ / 4, missing, std::max(missing, most_ - made_));
    const std::size_t bytes = slab_bytes(count, page_bytes_, overrun_);
    slabs_.reserve(slabs_.size() + 1);
    std::byte* const memory = static_cast<std::byte*>(allocate(bytes));
    slabs_.push_back({memory, bytes});
    std::memset(memory + bytes - overrun_, 0, overrun_);
    for (Index i = count; i-- > 0;) {
      PageHeader* const page = new (memory + std::size_t(i) * sizeof(PageHeader)) PageHeader;
      page->data = memory + header_bytes(count) + std::size_t(i) * page_bytes_;
      page->pool = this, page->next = list_, list_ = page;
    }
    made_ += count, free_ += count, bytes_ += bytes;
  }

  const std::size_t page_bytes_, overrun_;
  const Index most_;
  mutable std::mutex mutex_;
  std::vector<Slab, Allocator<Slab>> slabs_;
  PageHeader* list_ = nullptr;  ///< the free pages
  Index made_ = 0, free_ = 0;
  std::size_t bytes_ = 0;
};

/// A reference to a page. Copies share it; it returns to its pool with the last one.
class Page {
 public:
  Page() = default;
  explicit Page(PageHeader* page) : page_(page) { page_->references.store(1); }
  Page(const Page& o) : page_(o.page_) {
    if (page_ != nullptr) page_->references.fetch_add(1, std::memory_order_relaxed);
  }
  Page(Page&& o) noexcept : page_(std::exchange(o.page_, nullptr)) {}
  Page& operator=(Page o) noexcept {
    std::swap(page_, o.page_);
    return *this;
  }
  ~Page() {
    if (page_ != nullptr && page_->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      page_->next = nullptr;
      page_->pool->give_back(page_);
    }
  }

  std::byte* data() const { return page_->data; }
  /// Do others refer to this page too? It must not be written then.
  bool is_shared() const { return page_->references.load(std::memory_order_acquire) > 1; }

 private:
  PageHeader* page_ = nullptr;
};

/// A list of free pages that were taken from a pool. It does not return them: see ReservedPages.
struct PageList {
  PageHeader* first = nullptr;

  Page pop() {
    assert(first != nullptr && "the step writes more pages than it reserved");
    PageHeader* const page = first;
    first = page->next;
    return Page(page);
  }
  /// A page of zeros.
  Page pop_blank() {
    const std::size_t bytes = first->pool->page_bytes();
    Page page = pop();
    std::memset(page.data(), 0, bytes);
    return page;
  }
  /// A page with the contents of another one.
  Page pop_copy(const Page& of) {
    const std::size_t bytes = first->pool->page_bytes();
    Page page = pop();
    std::memcpy(page.data(), of.data(), bytes);
    return page;
  }
  /// Moves `count` pages to a list of their own.
  PageList split(Index count) {
    PageList list;
    for (Index i = 0; i < count; ++i) {
      PageHeader* const page = first;
      first = page->next, page->next = list.first, list.first = page;
    }
    return list;
  }
};

/// Pages set aside for a step, so that nothing can fail after it has begun. The destructor returns
/// those that are left.
class ReservedPages {
 public:
  ReservedPages() = default;
  /// @throws OutOfPages, std::bad_alloc
  ReservedPages(PagePool& pool, Index count) : pool_(&pool), list_{pool.take(count)} {}
  /// Takes them from others that were set aside, if there are any of this pool, and from the pool
  /// what is missing.
  ReservedPages(PagePool& pool, Index count, ReservedPages* others) : pool_(&pool) {
    if (others != nullptr && others->pool_ != &pool) others = nullptr;
    Index there = 0;
    if (others != nullptr)
      for (const PageHeader* page = others->list_.first; page != nullptr && there < count;
           page = page->next)
        ++there;
    list_.first = pool.take(count - there);
    for (; there > 0; --there) {
      PageHeader* const page = others->list_.first;
      others->list_.first = page->next, page->next = list_.first, list_.first = page;
    }
  }
  ReservedPages(ReservedPages&& o) noexcept
      : pool_(o.pool_), list_(std::exchange(o.list_, PageList())) {}
  ReservedPages& operator=(ReservedPages&&) = delete;
  ~ReservedPages() { give_back(list_); }

  PageList& list() { return list_; }
  void give_back(PageList& list) {
    if (list.first != nullptr) pool_->give_back(std::exchange(list.first, nullptr));
  }

 private:
  PagePool* pool_ = nullptr;
  PageList list_;
};

}  // namespace detail
}  // namespace heed::inline HEED_ABI
