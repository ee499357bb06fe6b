// SPDX-License-Identifier: MIT
// What main.cpp and the kernels share: functions of pointers and numbers.
#pragma once

#include <heed/core/dispatch.hpp>

struct Attend {
  /// Selective attention; q, k, v and out are [1, heads, tokens, dim], row-major.
  void (&selective)(const float* q, const float* k, const float* v, float* out, long heads,
                    long tokens, long dim);
};
