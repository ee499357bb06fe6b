// SPDX-License-Identifier: MIT
/// @file
/// The exceptions of the library. It throws them before it writes a byte.
#pragma once

#include "heed/core/abi.hpp"

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdio>
#include <span>
#include <stdexcept>

namespace heed::inline HEED_ABI {
namespace detail {

/// The text of an exception. Not a std::string: its inline functions have one name for all
/// instruction sets, and the linker may keep a body that the processor cannot run.
class Message {
 public:
  template <class... Pieces>
  explicit Message(const Pieces&... pieces) {
    (add(pieces), ...);
  }
  const char* text() const { return text_; }

 private:
  void add(const char* piece) { print("%s", piece); }
  void add(std::signed_integral auto number) { print("%lld", static_cast<long long>(number)); }
  void add(std::unsigned_integral auto number) {
    print("%llu", static_cast<unsigned long long>(number));
  }
  void add(std::floating_point auto number) { print("%g", double(number)); }
  /// "[1, 2, 5, 8]", as shapes appear in messages.
  template <std::size_t Rank>
  void add(const std::array<std::ptrdiff_t, Rank>& dims) {
    add(std::span<const std::ptrdiff_t>(dims));
  }
  void add(std::span<const std::ptrdiff_t> dims) {
    for (std::size_t d = 0; d < dims.size(); ++d) add(d == 0 ? "[" : ", "), add(dims[d]);
    add("]");
  }

  template <class X>
  void print(const char* format, X x) {
    const int wanted = std::snprintf(text_ + used_, sizeof text_ - used_, format, x);
    if (wanted > 0) used_ += static_cast<std::size_t>(wanted);
    if (used_ >= sizeof text_) used_ = sizeof text_ - 1;  // snprintf truncated the text
  }

  std::size_t used_ = 0;
  char text_[512] = "";
};

}  // namespace detail

/// Arguments whose shapes do not match. The message names both and gives both shapes.
struct ShapeError : std::invalid_argument {
  template <class... Pieces>
  explicit ShapeError(const Pieces&... pieces)
      : std::invalid_argument(detail::Message(pieces...).text()) {}
};

/// A number outside of its domain, such as a budget, a window or a head that does not exist.
struct ValueError : std::invalid_argument {
  template <class... Pieces>
  explicit ValueError(const Pieces&... pieces)
      : std::invalid_argument(detail::Message(pieces...).text()) {}
};

}  // namespace heed::inline HEED_ABI
