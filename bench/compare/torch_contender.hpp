// SPDX-License-Identifier: MIT
/// @file
/// LibTorch, where it was found.
#pragma once

#include "contender.hpp"

namespace compare {

/// Attention composed of its tensor operations, and its autograd.
std::unique_ptr<Contender> torch_composed(int threads);

/// Its scaled_dot_product_attention; null before version 2.
std::unique_ptr<Contender> torch_fused(int threads);

}  // namespace compare
