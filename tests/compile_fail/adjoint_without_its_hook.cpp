// SPDX-License-Identifier: MIT
// expect: heed: a stage defines an adjoint, grad_…\(\), without the hook that it belongs to
#include <heed/heed.hpp>

struct Doubled : heed::StageOf<heed::Rank::bias> {
#ifndef HEED_EXPECT_FAILURE
  template <class T>
  heed::Batch<T> score(const heed::Batch<T>& s, const heed::Lanes<T>&) const {
    return s + s;
  }
#endif
  template <class T>
  heed::Batch<T> grad_score(const heed::Batch<T>& grad, const heed::Batch<T>&,
                            const heed::Lanes<T>&) {
    return grad + grad;
  }
};

void attend(const heed::View<float, 4>& x) {
  heed::forward(x, x, x, Doubled{}, x);
}
