// SPDX-License-Identifier: MIT
#include "steps.hpp"

#include <cblas.h>
#include <cstdio>

namespace compare {
namespace {

blasint integer(Index x) {
  return blasint(x);
}

/// c = a b or, transposed, a bᵀ. A single row is a vector: a product of matrices would pack b.
void product(const ConstBlock& a, const ConstBlock& b, CBLAS_TRANSPOSE transposed, Block c) {
  if (a.rows() == 1)
    cblas_sgemv(CblasRowMajor, transposed == CblasTrans ? CblasNoTrans : CblasTrans,
                integer(b.rows()), integer(b.cols()), 1, b.data(), integer(b.outerStride()),
                a.data(), 1, 0, c.data(), 1);
  else
    cblas_sgemm(CblasRowMajor, CblasNoTrans, transposed, integer(c.rows()), integer(c.cols()),
                integer(a.cols()), 1, a.data(), integer(a.outerStride()), b.data(),
                integer(b.outerStride()), 0, c.data(), integer(c.outerStride()));
}

class OpenBlasSteps : public Steps {
 public:
  std::string name() const override { return "OpenBLAS"; }
  /// "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH … Zen": number and kernels.
  std::string version() const override {
    char number[32] = "";
    std::sscanf(openblas_get_config(), "OpenBLAS %31s", number);
    return std::string(number) + " (" + openblas_get_corename() + ")";
  }
  void scores(const ConstBlock& q, const ConstBlock& k, Block s) override {
    product(q, k, CblasTrans, s);
  }
  void mix(const ConstBlock& weights, const ConstBlock& v, Block out) override {
    product(weights, v, CblasNoTrans, out);
  }
};

}  // namespace

std::unique_ptr<Steps> openblas_steps() {
  return std::make_unique<OpenBlasSteps>();
}

}  // namespace compare
