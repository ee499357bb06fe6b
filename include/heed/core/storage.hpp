// SPDX-License-Identifier: MIT
/// @file
/// Recognizes 16-bit number types.
#pragma once

#include <limits>

namespace heed::inline HEED_ABI {

/// Recognized by size and precision, so that any library's type counts: Eigen::bfloat16,
/// Eigen::half, std::float16_t …
template <class S>
inline constexpr bool is_bfloat16 = sizeof(S) == 2 && !std::numeric_limits<S>::is_integer
                                    && std::numeric_limits<S>::digits == 8;
template <class S>
inline constexpr bool is_binary16 = sizeof(S) == 2 && !std::numeric_limits<S>::is_integer
                                    && std::numeric_limits<S>::digits == 11;

}  // namespace heed::inline HEED_ABI
