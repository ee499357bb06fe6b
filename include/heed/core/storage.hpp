// SPDX-License-Identifier: MIT
/// @file Which types of 16 bits are numbers.
#pragma once

#include <limits>

namespace heed::inline HEED_ABI {

/// bfloat16 or binary16, by what it can hold: Eigen::bfloat16, Eigen::half, std::float16_t …
template <class S>
inline constexpr bool is_bfloat16 = sizeof(S) == 2 && !std::numeric_limits<S>::is_integer
                                    && std::numeric_limits<S>::digits == 8;
template <class S>
inline constexpr bool is_binary16 = sizeof(S) == 2 && !std::numeric_limits<S>::is_integer
                                    && std::numeric_limits<S>::digits == 11;

}  // namespace heed::inline HEED_ABI
