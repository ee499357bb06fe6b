// SPDX-License-Identifier: MIT
// expect: heed: a stage has a member `changes_weights`, .* what a stage defines is used without a
// flag
#include <heed/heed.hpp>

struct Half : heed::StageOf<heed::Rank::weight> {
#ifdef HEED_EXPECT_FAILURE
  static constexpr bool changes_weights = true;
#endif
  template <class T>
  heed::Batch<T> weight(const heed::Batch<T>& w, const heed::Lanes<T>&) const {
    return w * heed::Batch<T>(T(0.5));
  }
};

void attend(const heed::View<float, 4>& x) {
  heed::forward(x, x, x, Half{}, x);
}
