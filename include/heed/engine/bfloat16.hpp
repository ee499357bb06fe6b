// SPDX-License-Identifier: MIT
/// @file What multiplies tensors of bfloat16.
#pragma once

#include "heed/core/instruction_set.hpp"
#include "heed/engine/blocking.hpp"
#include "heed/simd/matrix_tiles.hpp"

namespace heed::inline HEED_ABI {

/// How forward() multiplies where q, k and v are all of bfloat16. Sums are of float.
enum class Bfloat16 {
  widened,  ///< as numbers of float
  pairs,    ///< as it is, by AVX512_BF16: Cooper Lake, Sapphire Rapids, Zen 4
  tiles,    ///< as it is, by AMX_BF16 beside it: Sapphire Rapids; on Linux
};

namespace detail {

/// Pairs take half the time of float on AMD's processors, half as much again on Intel's, which
/// begin a quarter as many such products. Who is not Intel is taken to be as AMD.
inline Bfloat16 fastest_without_tiles() {
  return simd::multiplies_bfloat16 && !made_by_intel() ? Bfloat16::pairs : Bfloat16::widened;
}
/// What is asked for, if this build and this processor have it.
inline Bfloat16 available(Bfloat16 asked) {
  if (asked == Bfloat16::tiles)
    return simd::offers_tiles() ? Bfloat16::tiles : fastest_without_tiles();
  return simd::multiplies_bfloat16 ? asked : Bfloat16::widened;
}

}  // namespace detail

/// What is fastest here for so many queries of a head: matrix registers are filled by sixteen.
inline Bfloat16 fastest_bfloat16(Index queries) {
  return queries > detail::max_gemv_rows && simd::offers_tiles() ? Bfloat16::tiles
                                                                 : detail::fastest_without_tiles();
}

}  // namespace heed::inline HEED_ABI
