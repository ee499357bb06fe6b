// SPDX-License-Identifier: MIT
/// @file
/// Calls that are spoilt in one place, and what must come of them.
#pragma once

#include "heed/core/executor.hpp"
#include "heed/core/views.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace heed::test {

inline constexpr Index largest = std::numeric_limits<Index>::max(),
                       smallest = std::numeric_limits<Index>::min();
constexpr Index power_of_two(int exponent) {
  return Index(1) << exponent;
}

template <class T, std::size_t Rank>
View<T, Rank> moved(const View<T, Rank>& x, T* data) {
  return {data, x.dims(), x.strides()};
}
template <class T, std::size_t Rank>
View<T, Rank> nowhere(const View<T, Rank>& x) {
  return moved(x, static_cast<T*>(nullptr));
}
template <class T, std::size_t Rank>
View<T, Rank> strided(const View<T, Rank>& x, std::size_t d, Index stride) {
  Dims<Rank> strides = x.strides();
  strides[d] = stride;
  return {x.data(), x.dims(), strides};
}
/// Where no number of the type can be.
template <class T, std::size_t Rank>
View<T, Rank> misaligned(const View<T, Rank>& x) {
  return moved(x, reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(x.data()) + 1));
}

template <class... T>
std::string bytes_of(const std::vector<T>&... memory) {
  return (std::string() + ... +
          std::string(reinterpret_cast<const char*>(memory.data()), memory.size() * sizeof(T)));
}

/// A call that is right until spoil(call), and then is refused with that kind of error, which says
/// `words`. A Call runs by run(); written() is all the memory it has.
template <class Call, class Error, class Spoil>
void expect_refused_call(const std::string& words, Spoil&& spoil) {
  SCOPED_TRACE(words);
  Call call;
  spoil(call);
  const std::string before = call.written();
  const std::string message = message_of<Error>([&] { call.run(); });
  EXPECT_NE(message.find(words), std::string::npos) << message;
  EXPECT_TRUE(before == call.written()) << "something was written";
}

/// A call that change(call) leaves right.
template <class Call, class Change>
void expect_taken(const char* name, Change&& change) {
  SCOPED_TRACE(name);
  Call call;
  change(call);
  EXPECT_NO_THROW(call.run());
}

/// An executor of workers without end, which runs the last task first.
inline Executor endless_workers() {
  return {nullptr, largest, [](void*, Index tasks, Executor::Body body, void* context) {
            for (Index task = tasks; task-- > 0;) body(context, task, largest - 1 - task);
          }};
}

}  // namespace heed::test
