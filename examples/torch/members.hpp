// SPDX-License-Identifier: MIT
/// @file
/// The tensors of a call by name and by number.
#pragma once

#include "attention.hpp"

namespace heed_torch {

enum class Numbers { real, flags, integers };

struct Member {
  const char* name;
  at::Tensor Tensors::*tensor;
  std::int64_t rank;
  Numbers numbers = Numbers::real;
  bool broadcasts = false;       ///< Missing leading dimensions are 1.
  bool contiguous_rows = false;  ///< heed walks its last dimension by pointer.
};

inline constexpr Member members[] = {
    {"q", &Tensors::q, 4, Numbers::real, false, true},
    {"k", &Tensors::k, 4, Numbers::real, false, true},
    {"v", &Tensors::v, 4, Numbers::real, false, true},
    {"tau_q", &Tensors::tau_q, 3},
    {"tau_k", &Tensors::tau_k, 3},
    {"tau_v", &Tensors::tau_v, 3},
    {"bias", &Tensors::bias, 4, Numbers::real, true},
    {"alibi_slopes", &Tensors::alibi_slopes, 1},
    {"sinks", &Tensors::sinks, 1},
    {"carry_in", &Tensors::carry_in, 2},
    {"select_q", &Tensors::select_q, 3, Numbers::real, false, true},
    {"select_k", &Tensors::select_k, 3, Numbers::real, false, true},
    {"mask", &Tensors::mask, 4, Numbers::flags, true},
    {"lengths", &Tensors::lengths, 1, Numbers::integers},
    {"prefix", &Tensors::prefix, 1, Numbers::integers},
    {"documents", &Tensors::documents, 2, Numbers::integers, false, true},
    {"evict_row", &Tensors::evict_row, 2, Numbers::integers},
};

struct OutputMember {
  const char* name;
  at::Tensor Outputs::*tensor;
};

inline constexpr OutputMember output_members[] = {
    {"out", &Outputs::out},
    {"lse", &Outputs::lse},
    {"carry_out", &Outputs::carry_out},
    {"memory", &Outputs::memory},
};

}  // namespace heed_torch
