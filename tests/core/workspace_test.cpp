// SPDX-License-Identifier: MIT
#include "heed/core/workspace.hpp"

#include "support/sanitizers.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>

namespace heed::test {
namespace {

/// There is memory for that many bytes, and it may be written.
void expect_memory(Workspace& workspace, std::size_t bytes) {
  std::byte* memory = workspace.reserve(bytes);
  ASSERT_NE(memory, nullptr);
  EXPECT_GE(workspace.bytes(), bytes);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory) % Workspace::alignment, 0u);
  std::memset(static_cast<void*>(memory), 1, bytes);
}

TEST(Workspaces, GrowAndAreKept) {
  Workspace workspace;
  EXPECT_EQ(workspace.bytes(), 0u);
  expect_memory(workspace, 1000);
  std::byte* const kept = workspace.reserve(1000);
  EXPECT_EQ(workspace.reserve(10), kept);
  EXPECT_EQ(workspace.bytes(), 1000u);
  expect_memory(workspace, 2000);
}

TEST(Workspaces, OnceMovedFromAreEmptyAndServeAgain) {
  Workspace first;
  expect_memory(first, 1000);
  std::byte* const memory = first.reserve(1000);
  Workspace second(std::move(first));
  EXPECT_EQ(first.bytes(), 0u);  // NOLINT: what is left behind is what is tested
  EXPECT_EQ(second.bytes(), 1000u);
  EXPECT_EQ(second.reserve(10), memory);
  expect_memory(first, 100);

  Workspace third;
  expect_memory(third, 50);
  third = std::move(second);
  EXPECT_EQ(second.bytes(), 0u);  // NOLINT
  EXPECT_EQ(third.reserve(1000), memory);
  expect_memory(second, 100);
}

TEST(Workspaces, ServeAgainAfterAskingForTooMuch) {
  if (sanitized) GTEST_SKIP() << "a sanitizer's malloc ends the program instead";
  volatile std::size_t too_much = PTRDIFF_MAX;  // volatile: or the compiler warns of it
  Workspace workspace;
  expect_memory(workspace, 1000);
  EXPECT_THROW(workspace.reserve(too_much), std::bad_alloc);
  EXPECT_EQ(workspace.bytes(), 0u);
  expect_memory(workspace, 100);
}

}  // namespace
}  // namespace heed::test
