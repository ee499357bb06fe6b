// SPDX-License-Identifier: MIT
// expect: heed: at most one stage may scan the rows
#include <heed/heed.hpp>

#ifdef HEED_EXPECT_FAILURE
[[maybe_unused]] auto variant = heed::causal | heed::selective | heed::selective;
#else
[[maybe_unused]] auto variant = heed::causal | heed::selective;
#endif
