// SPDX-License-Identifier: MIT
/// @file
/// heed's attention as a differentiable function of PyTorch tensors.
#pragma once

#include "heed/score/selective.hpp"

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <optional>

namespace heed_torch {

/// What goes into a call; what is absent is undefined. float or double, all the same, on the CPU,
/// of any strides: only where the last dimension of q, k, v or the select ones is not contiguous is
/// a copy made.
struct Tensors {
  // These have gradients.
  at::Tensor q, k, v;              ///< [B, H, Nq, D], [B, G, Nk, D], [B, G, Nk, Dv]
  at::Tensor tau_q, tau_k, tau_v;  ///< [B, H or 1, Nq], [B, G or 1, Nk], [B, G or 1, Nk]
  at::Tensor bias;                 ///< broadcasts to [B, H, Nq, Nk]; −∞ hides
  at::Tensor alibi_slopes, sinks;  ///< [H]
  at::Tensor carry_in;             ///< [B, Nk]
  at::Tensor select_q, select_k;   ///< [B, Nq, Ds], [B, Nk, Ds]
  // These have none.
  at::Tensor mask;                  ///< bool or uint8, broadcasts to [B, H, Nq, Nk]; 1 is visible
  at::Tensor lengths, prefix;       ///< int64 [B]
  at::Tensor documents, evict_row;  ///< int64 [B, Nk]
};

/// What comes out. All but lse have a gradient; carry_out and memory only where asked for.
struct Outputs {
  at::Tensor out;        ///< [B, H, Nq, Dv], in the memory order of q
  at::Tensor lse;        ///< [B, H, Nq]
  at::Tensor carry_out;  ///< [B, Nk]
  at::Tensor memory;     ///< [B, Nq]
};

/// The stages that are no tensors. Each is as the stage of that name in heed/score says.
struct Settings {
  bool causal = false;  ///< A prefix takes its place.
  std::optional<std::int64_t> query_offset, window_left, window_right, block_size;
  std::int64_t previous_blocks = 0;
  std::optional<double> scale, softcap;  ///< Without a scale 1/√D.
  double dropout = 0;
  std::uint64_t dropout_seed = 0;

  bool selective = false;
  heed::SelectOptions select;
  double memory_tau = 1;
  bool returns_carry = false, returns_memory = false;
};

/// Attention, recorded for autograd. Differentiable once.
///
/// @throws c10::Error with heed's message where shapes or numbers do not fit.
/// @note Runs on PyTorch's threads, as many as at::get_num_threads() says. Keeps for the backward
///       pass what came in, out and lse: nothing N × N.
Outputs attention(Tensors in, const Settings& settings);

}  // namespace heed_torch
