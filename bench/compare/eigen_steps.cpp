// SPDX-License-Identifier: MIT
#include "steps.hpp"

namespace compare {
namespace {

class EigenSteps : public Steps {
 public:
  std::string name() const override { return "Eigen"; }
  std::string version() const override {
    return std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "." +
           std::to_string(EIGEN_MINOR_VERSION);
  }
  void scores(const ConstBlock& q, const ConstBlock& k, Block s) override {
    s.noalias() = q * k.transpose();
  }
  void mix(const ConstBlock& weights, const ConstBlock& v, Block out) override {
    out.noalias() = weights * v;
  }
};

}  // namespace

std::unique_ptr<Steps> eigen_steps() {
  return std::make_unique<EigenSteps>();
}

}  // namespace compare
