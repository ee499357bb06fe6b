// SPDX-License-Identifier: MIT
// expect: heed: bind\(\) of a stage returns a stage that has a bind\(\) of its own
#include <heed/heed.hpp>

/// Wraps a stage of the library, which must be bound too.
struct Wrapped : heed::StageOf<heed::Rank::scale> {
  template <class T>
#ifdef HEED_EXPECT_FAILURE
  heed::Standard bind(const heed::Problem&, heed::Arena&) const {
    return heed::standard;
  }
#else
  auto bind(const heed::Problem& p, heed::Arena& arena) const {
    return heed::bound<T>(heed::standard, p, arena);
  }
#endif
};

void attend(const heed::View<float, 4>& x) {
  heed::forward(x, x, x, Wrapped{}, x);
}
