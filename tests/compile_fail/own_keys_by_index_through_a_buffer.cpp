// SPDX-License-Identifier: MIT
// expect: heed: this stage reads keys by index, which a buffer's slots do not have
#include <heed/heed.hpp>

/// A stage that meets keys is taken to read their index unless it says otherwise.
struct Raised : heed::StageOf<heed::Rank::bias> {
#ifndef HEED_EXPECT_FAILURE
  static constexpr heed::Reads reads = heed::Reads::score;
#endif
  template <class T>
  heed::Batch<T> score(const heed::Batch<T>& s, const heed::Lanes<T>&) const {
    return s + heed::Batch<T>(T(1));
  }
};

void decode(heed::KvBuffer<float>& buffer, heed::View<const float, 4> x, heed::View<float, 4> out) {
  buffer.step(x, x, x, heed::standard | Raised{}, out);
}
