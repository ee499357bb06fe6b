// SPDX-License-Identifier: MIT
// expect: heed: a stage must not be final
#include <heed/heed.hpp>

struct Halved
#ifdef HEED_EXPECT_FAILURE
    final
#endif
    : heed::StageOf<heed::Rank::rescale> {
  template <class T>
  T query_factor(T factor, const heed::Row&) const {
    return factor / 2;
  }
};

void attend(const heed::View<float, 4>& x) {
  heed::forward(x, x, x, Halved{}, x);
}
