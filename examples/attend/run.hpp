// SPDX-License-Identifier: MIT
/// @file
/// Running a request.
#pragma once

#include "attend/inputs.hpp"

#include <optional>
#include <vector>

namespace attend {

/// What came out. Tensors that neither were asked for nor others need are none.
struct Result {
  std::optional<npy::Array> out, lse, carry_out, evict_row, mask_f;
  std::optional<npy::Array> grad_q, grad_k, grad_v, grad_tau_q, grad_tau_k, grad_tau_v, grad_bias,
      grad_carry;

  std::vector<double> seconds;   ///< of each run
  heed::Index pairs = 0;         ///< (query, key, head) computed in a run
  double operations = 0;         ///< floating-point, of those pairs: 2 (D + Dv) each
  heed::Index tokens = 0;        ///< of the keys
  heed::Index held_bytes = 0;    ///< keys, values and F of those held: of all, or of the budget
  heed::Index buffer_bytes = 0;  ///< all memory of the buffer, with a budget
};

/// Runs the request in T as often as it says. The inputs are of type T.
/// @throws heed::ShapeError, heed::ValueError, UsageError where tensors and options do not fit.
template <class T>
Result run(const Request& request, const Inputs& inputs);

extern template Result run<float>(const Request&, const Inputs&);
extern template Result run<double>(const Request&, const Inputs&);

}  // namespace attend
