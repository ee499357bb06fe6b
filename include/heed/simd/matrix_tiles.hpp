// SPDX-License-Identifier: MIT
/// @file
/// bfloat16 products in AMX tile registers: sixteen rows of sixteen operands.
#pragma once

#include "heed/core/instruction_set.hpp"
#include "heed/simd/operand.hpp"

#if defined(HEED_HAS_AMX_BF16) && defined(__AVX512BF16__) && defined(__linux__) && \
    !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
#define HEED_MATRIX_TILES
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace heed::inline HEED_ABI::simd {

/// A tile has tile_rows rows of tile_rows operands or sums. A panel has tile_panel_keys keys.
inline constexpr Index tile_rows = 16, tile_panel_keys = 2 * tile_rows;

#ifdef HEED_MATRIX_TILES

/// Is this compilation for a processor with AMX?
inline constexpr bool multiplies_tiles = true;

/// Does the processor have AMX, and does the system let this process use it? The permission is
/// requested once per process, for all threads, and for good. From then on signal stacks must have
/// room for the tiles: sigaltstack() rejects less than 12 kB, and the system refuses the permission
/// if a smaller stack exists.
inline bool offers_tiles() {
  constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XTILEDATA
  static const bool offered = heed::detail::detect_amx_bf16() &&
                              syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  return offered;
}

static_assert(Operand<Bfloat16Pair>::value_row_multiple == tile_rows);

namespace detail {

/// Compiler barrier. The tile intrinsics of g++ do not tell the compiler that they read memory.
HEED_INLINE void compiler_barrier() {
  asm volatile("" ::: "memory");
}

}  // namespace detail

/// Configures the tile registers of this thread, for its lifetime, as multiply_tiles() and
/// accumulate_tiles() need them: 0 and 1 for sums; 2 for the left operands, 3 and 4 for the right
/// ones, of a whole step of the reduction; 5, 6 and 7 likewise for the tail of `operands`.
class MatrixTiles {
 public:
  explicit MatrixTiles(Index operands) noexcept {
    Shapes shapes;
    const auto shape = [&](int tile, Index rows, Index columns) {
      shapes.rows[tile] = std::uint8_t(rows);
      shapes.row_bytes[tile] = std::uint16_t(columns * Index(sizeof(Bfloat16Pair)));
    };
    for (int tile = 0; tile < 5; ++tile) shape(tile, tile_rows, tile_rows);
    const Index tail = operands % tile_rows == 0 ? tile_rows : operands % tile_rows;
    shape(5, tile_rows, tail);
    shape(6, tail, tile_rows);
    shape(7, tail, tile_rows);
    asm volatile("" : "+m"(shapes));  // in memory: see compiler_barrier()
    _tile_loadconfig(&shapes);
  }
  MatrixTiles(const MatrixTiles&) = delete;
  MatrixTiles& operator=(const MatrixTiles&) = delete;
  ~MatrixTiles() { _tile_release(); }

 private:
  /// The operand of LDTILECFG.
  struct alignas(64) Shapes {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t row_bytes[16] = {};
    std::uint8_t rows[16] = {};
  };
};

/// out[r · out_stride + c] = Σ_d q[r · q_stride + d] · panel[d · 32 + c] for r < 16, c < 32. Needs
/// a live MatrixTiles(operands).
inline void multiply_tiles(const Bfloat16Pair* q, Index q_stride, const Bfloat16Pair* panel,
                           Index operands, float* out, Index out_stride) noexcept {
  constexpr Index size = sizeof(Bfloat16Pair), panel_bytes = tile_panel_keys * size;
  detail::compiler_barrier();
  _tile_zero(0);
  _tile_zero(1);
  Index d = 0;
  for (; d + tile_rows <= operands; d += tile_rows) {
    _tile_loadd(2, q + d, q_stride * size);
    _tile_loadd(3, panel + d * tile_panel_keys, panel_bytes);
    _tile_dpbf16ps(0, 2, 3);
    _tile_loadd(4, panel + d * tile_panel_keys + tile_rows, panel_bytes);
    _tile_dpbf16ps(1, 2, 4);
  }
  if (d < operands) {
    _tile_loadd(5, q + d, q_stride * size);
    _tile_loadd(6, panel + d * tile_panel_keys, panel_bytes);
    _tile_dpbf16ps(0, 5, 6);
    _tile_loadd(7, panel + d * tile_panel_keys + tile_rows, panel_bytes);
    _tile_dpbf16ps(1, 5, 7);
  }
  _tile_stored(0, out, out_stride * Index(sizeof(float)));
  _tile_stored(1, out + tile_rows, out_stride * Index(sizeof(float)));
}

/// out[r][d] += Σ_j p[r · p_stride + j] · v[j · v_stride + d] for r < 16, d < columns. Needs any
/// live MatrixTiles.
///
/// @param operands  along j, a multiple of sixteen.
/// @param columns   a multiple of sixteen, and the row stride of `out`.
inline void accumulate_tiles(const Bfloat16Pair* p, Index p_stride, const Bfloat16Pair* v,
                             Index v_stride, Index operands, Index columns, float* out) noexcept {
  constexpr Index size = sizeof(Bfloat16Pair);
  const Index out_bytes = columns * Index(sizeof(float));
  detail::compiler_barrier();
  for (Index d = 0; d < columns; d += 2 * tile_rows) {
    const bool two = d + tile_rows < columns;
    _tile_loadd(0, out + d, out_bytes);
    if (two) _tile_loadd(1, out + d + tile_rows, out_bytes);
    for (Index j = 0; j < operands; j += tile_rows) {
      _tile_loadd(2, p + j, p_stride * size);
      _tile_loadd(3, v + j * v_stride + d, v_stride * size);
      _tile_dpbf16ps(0, 2, 3);
      if (two) {
        _tile_loadd(4, v + j * v_stride + d + tile_rows, v_stride * size);
        _tile_dpbf16ps(1, 2, 4);
      }
    }
    _tile_stored(0, out + d, out_bytes);
    if (two) _tile_stored(1, out + d + tile_rows, out_bytes);
  }
}

#else

inline constexpr bool multiplies_tiles = false;
inline bool offers_tiles() {
  return false;
}
class MatrixTiles;
// Declared only.
void multiply_tiles(const Bfloat16Pair*, Index, const Bfloat16Pair*, Index, float*, Index) noexcept;
void accumulate_tiles(const Bfloat16Pair*, Index, const Bfloat16Pair*, Index, Index, Index,
                      float*) noexcept;

#endif

}  // namespace heed::inline HEED_ABI::simd
