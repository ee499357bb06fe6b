// SPDX-License-Identifier: MIT
#include "table.hpp"

namespace {

int fourfold(int x) {
  return twice(twice(x));
}

}  // namespace

HEED_KERNELS(Table, fourfold);
