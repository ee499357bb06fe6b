// SPDX-License-Identifier: MIT
// expect: heed: backward\(\) needs grad_score\(\) of a stage that defines score\(\)
#include <heed/heed.hpp>

struct Doubled : heed::StageOf<heed::Rank::bias> {
  template <class T>
  heed::Batch<T> score(const heed::Batch<T>& s, const heed::Lanes<T>&) const {
    return s + s;
  }
#ifndef HEED_EXPECT_FAILURE
  template <class T>
  heed::Batch<T> grad_score(const heed::Batch<T>& grad, const heed::Batch<T>&,
                            const heed::Lanes<T>&) {
    return grad + grad;
  }
#endif
};

void back(const heed::View<float, 4>& x, const heed::View<float, 3>& lse) {
  heed::backward(x, x, x, Doubled{}, x, lse, x, x, x, x);
}
