// SPDX-License-Identifier: MIT
// expect: heed: a stage defines a hook that what its bind\(\) returns does not
#include <heed/heed.hpp>

/// Scores change in the stage, but a call is given what bind() returns.
struct Shifted : heed::StageOf<heed::Rank::bias> {
  struct Bound : heed::StageOf<heed::Rank::bias> {
#ifndef HEED_EXPECT_FAILURE
    template <class T>
    heed::Batch<T> score(const heed::Batch<T>& s, const heed::Lanes<T>&) const {
      return s + heed::Batch<T>(T(1));
    }
#endif
  };
  template <class T>
  heed::Batch<T> score(const heed::Batch<T>& s, const heed::Lanes<T>& at) const {
    return Bound{}.score(s, at);
  }
  template <class T>
  Bound bind(const heed::Problem&, heed::Arena&) const {
    return {};
  }
};

void attend(const heed::View<float, 4>& x) {
  heed::forward(x, x, x, Shifted{}, x);
}
