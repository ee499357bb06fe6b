// SPDX-License-Identifier: MIT
// Built for 64-bit Arm: 32 registers of four floats or two doubles, multiply-adds always fused.
#include "support/whole_library.hpp"

static_assert(heed::simd::width<float> == 4 && heed::simd::width<double> == 2);
static_assert(heed::simd::registers == 32);
