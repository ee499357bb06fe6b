// SPDX-License-Identifier: MIT
#include "inputs.hpp"

#include "heed_contender.hpp"

#include <Eigen/Core>

#include <algorithm>
#include <stdexcept>

namespace compare {

Inputs::Inputs(const Case& asked) : what(asked) {
  const bool forgets = what.kind == Kind::forgetting;
  const Index keys = what.tokens + (forgets ? coming : 0);
  const Index rows = what.kind == Kind::decode ? 1 : keys;
  q = bench::random<float, 4>(1, 1, what.heads, rows, what.dim);
  k = bench::random<float, 4>(2, 1, what.key_heads, keys, what.dim);
  v = bench::random<float, 4>(3, 1, what.key_heads, keys, what.dim);
  if (what.trains()) grad_out = bench::random<float, 4>(4, 1, what.heads, rows, what.dim);
  if (forgets) held = held_after(*this);
}

double difference(const Results& a, const Results& b) {
  using Vector = Eigen::Map<const Eigen::VectorXf>;
  if (a.size() != b.size()) throw std::runtime_error("one has more results than the other");
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i].size() != b[i].size()) throw std::runtime_error("results differ in size");
    const Vector x(a[i].data(), Index(a[i].size())), y(b[i].data(), Index(b[i].size()));
    const double apart = double((x - y).norm()) / double(y.norm());
    if (!(apart <= most)) most = apart;  // NaN stays
  }
  return most;
}

}  // namespace compare
