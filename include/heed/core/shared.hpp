// SPDX-License-Identifier: MIT
/// @file
/// A constant or mutable value that several owners share.
#pragma once

#include "heed/core/views.hpp"

#include <atomic>
#include <utility>

namespace heed::inline HEED_ABI::detail {

/// std::shared_ptr without its functions that are not inline: these have one name in units for all
/// instruction sets, and the linker would keep an arbitrary body.
template <class T>
class Shared {
 public:
  Shared() = default;
  template <class... Args>
  static Shared make(Args&&... args) {
    Shared made;
    made.block_ = new Block{{1}, T(std::forward<Args>(args)...)};
    return made;
  }
  Shared(const Shared& o) noexcept : block_(o.block_) {
    if (block_ != nullptr) block_->owners.fetch_add(1, std::memory_order_relaxed);
  }
  Shared(Shared&& o) noexcept : block_(std::exchange(o.block_, nullptr)) {}
  Shared& operator=(Shared o) noexcept {
    std::swap(block_, o.block_);
    return *this;
  }
  ~Shared() {
    if (block_ != nullptr && block_->owners.fetch_sub(1, std::memory_order_acq_rel) == 1)
      delete block_;
  }

  explicit operator bool() const { return block_ != nullptr; }
  T& operator*() const { return block_->value; }
  T* operator->() const { return &block_->value; }
  friend bool operator==(const Shared&, const Shared&) = default;

 private:
  struct Block {
    std::atomic<Index> owners;
    T value;
  };
  Block* block_ = nullptr;
};

}  // namespace heed::inline HEED_ABI::detail
