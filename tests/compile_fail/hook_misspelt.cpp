// SPDX-License-Identifier: MIT
// expect: heed: a stage has a member `grad_scores`, which the library never calls; is `grad_score`
// meant
#include <heed/heed.hpp>

struct Doubled : heed::StageOf<heed::Rank::bias> {
  template <class T>
  heed::Batch<T> score(const heed::Batch<T>& s, const heed::Lanes<T>&) const {
    return s + s;
  }
#ifdef HEED_EXPECT_FAILURE
#define GRAD_SCORE grad_scores
#else
#define GRAD_SCORE grad_score
#endif
  template <class T>
  heed::Batch<T> GRAD_SCORE(const heed::Batch<T>& grad, const heed::Batch<T>&,
                            const heed::Lanes<T>&) {
    return grad + grad;
  }
};

void attend(const heed::View<float, 4>& x) {
  heed::forward(x, x, x, Doubled{}, x);
}
