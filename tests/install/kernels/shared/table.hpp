// SPDX-License-Identifier: MIT
#pragma once

#include <heed/core/dispatch.hpp>

struct Table {
  int (&fourfold)(int);
};

[[gnu::noinline]] inline int twice(int x) {
  return 2 * x;
}
