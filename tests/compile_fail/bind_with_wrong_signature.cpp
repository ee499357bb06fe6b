// SPDX-License-Identifier: MIT
// expect: heed: bind\(\) of a stage has the wrong signature
#include <heed/heed.hpp>

struct Shifted : heed::StageOf<heed::Rank::rescale> {
  float by = 0;
  template <class T>
  Shifted bind(const heed::Problem& p, heed::Arena&)
#ifndef HEED_EXPECT_FAILURE
      const
#endif
  {
    return {{}, float(p.dim)};
  }
  template <class T>
  T query_factor(T factor, const heed::Row&) const {
    return factor * T(by);
  }
};

void attend(const heed::View<float, 4>& x) {
  heed::forward(x, x, x, Shifted{}, x);
}
