// SPDX-License-Identifier: MIT
// Built with XSIMD_NO_SUPPORTED_ARCHITECTURE: on a processor xsimd has no registers for, one lane
// does the work of eight.
#include "support/whole_library.hpp"

static_assert(heed::simd::width<float> == 1 && heed::simd::width<double> == 1);
