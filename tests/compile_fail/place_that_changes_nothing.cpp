// SPDX-License-Identifier: MIT
// expect: heed: place\(\) of a stage changes the problem
#include <heed/heed.hpp>

struct Further : heed::StageOf<heed::Rank::place> {
#ifdef HEED_EXPECT_FAILURE
  void place(heed::Problem p) const {
    p.set_query_offset(3);
  }
#else
  void place(heed::Problem& p) const {
    p.set_query_offset(3);
  }
#endif
};

void attend(const heed::View<float, 4>& x) {
  heed::forward(x, x, x, Further{} | heed::standard, x);
}
