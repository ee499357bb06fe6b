// SPDX-License-Identifier: MIT
#include "composition.hpp"
#include "contender.hpp"
#include "heed_contender.hpp"
#ifdef HEED_COMPARE_TORCH
#include "torch_contender.hpp"
#endif

namespace compare {

Contenders all_contenders(int threads) {
  Contenders all;
  all.push_back(heed_contender(Forgotten::left_out, threads));
  all.push_back(heed_contender(Forgotten::computed, threads));
  // Rows in blocks: half of the causally masked scores are not computed, and scores stay in the
  // cache.
  constexpr Index blocked = 256;
  all.push_back(composition(eigen_steps, whole));
  all.push_back(composition(eigen_steps, blocked));
#ifdef HEED_COMPARE_OPENBLAS
  all.push_back(composition(openblas_steps, whole));
  all.push_back(composition(openblas_steps, blocked));
#endif
#ifdef HEED_COMPARE_ONEDNN
  all.push_back(composition(onednn_steps, whole));
  all.push_back(composition(onednn_steps, blocked));
#endif
#ifdef HEED_COMPARE_TORCH
  all.push_back(torch_composed(threads));
  if (auto fused = torch_fused(threads)) all.push_back(std::move(fused));
#endif
  return all;
}

std::vector<std::string> absent() {
  return {
#ifndef HEED_COMPARE_OPENBLAS
      "OpenBLAS",
#endif
#ifndef HEED_COMPARE_ONEDNN
      "oneDNN",
#endif
#ifndef HEED_COMPARE_TORCH
      "LibTorch",
#endif
  };
}

}  // namespace compare
