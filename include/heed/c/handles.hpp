// SPDX-License-Identifier: MIT
/// @file
/// The handles of the C interface: what is open, and which call uses it.
#pragma once

#include "heed/c/errors.hpp"

#include <atomic>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

namespace heed::inline HEED_ABI::c_interface {

enum class Kind { cache, sequence, mark, pool, threads, workspace };

inline const char* name_of(Kind kind) {
  constexpr const char* names[] = {"a cache", "a sequence", "a mark",
                                   "a pool",  "threads",    "a workspace"};
  return names[int(kind)];
}

/// An object behind a handle.
struct Held {
  Held(Kind of, void* is, void (*by)(void*)) : kind(of), object(is), destroy(by) {}
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  ~Held() { destroy(object); }

  const Kind kind;
  void* const object;
  void (*const destroy)(void*);
  std::atomic<bool> busy{false};
};

/// All open handles of the program. Thread-safe.
class Handles {
 public:
  /// Never destroyed, so that calls are safe while the program ends.
  static Handles& all() {
    static Handles& handles = *new Handles;
    return handles;
  }

  /// Owns the object, even if it throws std::bad_alloc.
  heed_handle add(Kind kind, void* object, void (*destroy)(void*)) {
    std::unique_ptr<void, void (*)(void*)> owned(object, destroy);
    const auto held = std::make_shared<Held>(kind, object, destroy);
    owned.release();
    const std::lock_guard lock(mutex_);
    handles_.emplace(last_ + 1, held);
    return ++last_;
  }
  /// @throws Error
  std::shared_ptr<Held> find(const char* what, heed_handle handle) const {
    const std::lock_guard lock(mutex_);
    const auto at = handles_.find(handle);
    if (at == handles_.end())
      throw Error(HEED_INVALID_HANDLE, what, " is ", handle,
                  handle == 0       ? ", which is no handle"
                  : handle <= last_ ? ", which is closed"
                                    : ", which was never opened");
    return at->second;
  }
  /// @throws Error
  void close(heed_handle handle) {
    std::shared_ptr<Held> held = find("the handle", handle);  // destroyed without the lock
    const std::lock_guard lock(mutex_);
    if (held->busy) throw Error(HEED_BUSY, name_of(held->kind), " ", handle, " is in use");
    if (handles_.erase(handle) == 0)
      throw Error(HEED_INVALID_HANDLE, "the handle is ", handle, ", which is closed");
  }

 private:
  mutable std::mutex mutex_;
  heed_handle last_ = 0;
  std::unordered_map<heed_handle, std::shared_ptr<Held>> handles_;
};

/// A handle that a call uses. It stays valid if another thread closes it.
class InUse {
 public:
  InUse() = default;
  /// @param alone  no other call may use it alone at the same time.
  /// @throws Error
  InUse(const char* what, heed_handle handle, Kind kind, bool alone)
      : held_(Handles::all().find(what, handle)) {
    if (held_->kind != kind)
      throw Error(HEED_INVALID_HANDLE, what, " is ", handle, ", which is ", name_of(held_->kind),
                  ", not ", name_of(kind));
    if (alone && held_->busy.exchange(true))
      throw Error(HEED_BUSY, what, " is ", handle, ", which another call is using");
    alone_ = alone;
  }
  InUse(InUse&& o) noexcept : held_(std::move(o.held_)), alone_(std::exchange(o.alone_, false)) {}
  InUse& operator=(InUse&& o) noexcept {
    std::swap(held_, o.held_), std::swap(alone_, o.alone_);
    return *this;
  }
  ~InUse() {
    if (alone_ && held_) held_->busy = false;
  }

  void* object() const { return held_->object; }
  template <class X>
  X& as() const {
    return *static_cast<X*>(object());
  }
  explicit operator bool() const { return held_ != nullptr; }

 private:
  std::shared_ptr<Held> held_;
  bool alone_ = false;
};

}  // namespace heed::inline HEED_ABI::c_interface
