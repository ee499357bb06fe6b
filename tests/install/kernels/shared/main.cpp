// SPDX-License-Identifier: MIT
#include "table.hpp"

int main() {
  return heed::dispatch<Table>()->fourfold(twice(0));
}
