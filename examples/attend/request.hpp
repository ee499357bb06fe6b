// SPDX-License-Identifier: MIT
/// @file
/// What the command line asks for.
#pragma once

#include "programs/number.hpp"

#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <optional>
#include <string>

namespace attend {

using Path = std::filesystem::path;
using Integer = std::int64_t;

using programs::UsageError;

/// The library's eviction rules.
enum class Evict { most_masked, heavy_hitters, least_attended_last, oldest, key_difference, snap };

/// Keys from left before the row's position to right after it.
struct WindowSides {
  Integer left = 0, right = 0;
};

/// The options, checked as far as they can be without the tensors.
struct Request {
  // Tensors in, tensors out. An empty path: not asked for.
  Path q, k, v, out, lse;
  Path tau_q, tau_k, tau_v, bias, mask, lengths, sinks, carry_in;
  Path carry_out, evict_row, mask_f;

  // The way back: ∂L/∂out in, ∂L/∂ of inputs out.
  Path grad_out;
  Path grad_q, grad_k, grad_v, grad_tau_q, grad_tau_k, grad_tau_v, grad_bias, grad_carry;

  // What each row sees.
  bool causal = false;
  std::optional<Integer> query_offset;
  std::optional<WindowSides> window;
  std::optional<Integer> block;
  Integer previous_blocks = 0;
  std::optional<Integer> prefix;

  // What happens to scores.
  std::optional<double> scale, softcap;
  bool alibi = false;
  bool selective = false;
  Integer select_head = 0;

  // The key-value buffer.
  std::optional<Integer> budget, chunk;
  Evict evict = Evict::most_masked;

  // How it runs.
  std::optional<bool> in_double;  ///< none: as q
  Integer threads = 1;
  Integer repeat = 1;
  bool stats = false;
};

/// Reads the command line. Prints the help to `out`, and returns nothing, if that was asked for.
/// @throws UsageError
std::optional<Request> parse(int argc, const char* const* argv, std::ostream& out);

}  // namespace attend
