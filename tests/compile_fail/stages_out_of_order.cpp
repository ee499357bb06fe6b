// SPDX-License-Identifier: MIT
// expect: heed: stages are out of order
#include <heed/heed.hpp>

#ifdef HEED_EXPECT_FAILURE
[[maybe_unused]] auto variant = heed::causal | heed::standard;
#else
[[maybe_unused]] auto variant = heed::standard | heed::causal;
#endif
