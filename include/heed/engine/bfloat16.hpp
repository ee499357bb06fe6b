// SPDX-License-Identifier: MIT
/// @file
/// The instructions that multiply bfloat16, and the choice between them.
#pragma once

#include "heed/core/instruction_set.hpp"
#include "heed/engine/blocking.hpp"
#include "heed/simd/matrix_tiles.hpp"

namespace heed::inline HEED_ABI {

/// How forward() multiplies if q, k and v are all bfloat16. It always accumulates in float.
enum class Bfloat16 {
  widened,  ///< widened to float
  pairs,    ///< as bfloat16, by AVX512_BF16: Cooper Lake, Sapphire Rapids, Zen 4
  tiles,    ///< as bfloat16, by AMX_BF16 as well: Sapphire Rapids; on Linux
};

namespace detail {

/// VDPBF16PS takes 0.5 times the time of float on AMD Zen 4, and 1.5 times on Intel, where its
/// throughput is a quarter. Unknown vendors are treated as AMD.
inline Bfloat16 fastest_without_tiles() {
  return simd::multiplies_bfloat16 && !is_intel() ? Bfloat16::pairs : Bfloat16::widened;
}
/// The requested instructions, or the fastest others if this build or processor lacks them.
inline Bfloat16 available(Bfloat16 requested) {
  if (requested == Bfloat16::tiles)
    return simd::offers_tiles() ? Bfloat16::tiles : fastest_without_tiles();
  return simd::multiplies_bfloat16 ? requested : Bfloat16::widened;
}

}  // namespace detail

/// The fastest choice on this processor for this many queries per head. A matrix register holds
/// sixteen rows, so few queries would leave it mostly empty.
inline Bfloat16 fastest_bfloat16(Index queries) {
  return queries > detail::max_gemv_rows && simd::offers_tiles() ? Bfloat16::tiles
                                                                 : detail::fastest_without_tiles();
}

}  // namespace heed::inline HEED_ABI
