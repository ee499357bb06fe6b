// SPDX-License-Identifier: MIT
// expect: heed: a hook of a stage has the wrong signature
#include <heed/heed.hpp>

/// Hides what lies more than ten tokens back; a hook named but mistyped would otherwise be ignored.
struct Near : heed::StageOf<heed::Rank::mask> {
#ifdef HEED_EXPECT_FAILURE
  heed::KeyRange keys(heed::KeyRange& range, heed::Row& row) const {
#else
  heed::KeyRange keys(const heed::KeyRange& range, const heed::Row& row) const {
#endif
      return range & heed::KeyRange{row.position - 10, row.position + 1};
}
}
;

void attend(const heed::View<float, 4>& x) {
  heed::forward(x, x, x, Near{}, x);
}
