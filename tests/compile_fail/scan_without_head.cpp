// SPDX-License-Identifier: MIT
// expect: heed: a stage that defines scan_tile\(\) must define selecting_head\(\) too
#include <heed/heed.hpp>

struct Counting : heed::StageOf<heed::Rank::scan> {
  template <class T>
  void scan_tile(const heed::ScoreTile<T>&) {}
#ifndef HEED_EXPECT_FAILURE
  heed::Index selecting_head() const {
    return 0;
  }
#endif
};

void attend(const heed::View<float, 4>& x) {
  heed::forward(x, x, x, heed::standard | heed::causal | Counting{}, x);
}
