// SPDX-License-Identifier: MIT
// Offsets past 2³¹ and 2³² elements: a cache of that size, of which only a few pages are touched.

#include "heed/engine/forward.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/standard.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace heed::test {
namespace {

#if defined(__linux__)

/// Address space without memory behind it until it is touched.
class Reserved {
 public:
  explicit Reserved(std::size_t bytes) : bytes_(bytes) {
    data_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  ~Reserved() {
    if (*this) munmap(data_, bytes_);
  }
  Reserved(const Reserved&) = delete;
  Reserved& operator=(const Reserved&) = delete;

  explicit operator bool() const { return data_ != MAP_FAILED; }
  float* data() const { return static_cast<float*>(data_); }

 private:
  void* data_;
  std::size_t bytes_;
};

TEST(LargeStrides, AreFollowedInSixtyFourBits) {
  const Index stride = (Index(1) << 31) + 1000, heads = 3, n = 40, dim = 16;
  const Reserved space(std::size_t(heads * stride) * sizeof(float));
  if (!space) GTEST_SKIP() << "no address space of 24 GB";

  const Inputs<float> in = inputs<float>(tokens(n, dim, heads, heads), 1);
  const Dims<4> dims{1, heads, n, dim}, strides{heads * stride, stride, dim, 1};
  const auto at = [&](Index place) { return View<float, 4>(space.data() + place, dims, strides); };
  const View<float, 4> q = at(0), k = at(10000), v = at(20000), out = at(30000);
  for (Index h = 0; h < heads; ++h)
    for (Index i = 0; i < n; ++i)
      for (Index d = 0; d < dim; ++d) {
        q(0, h, i, d) = in.q(0, h, i, d);
        k(0, h, i, d) = in.k(0, h, i, d);
        v(0, h, i, d) = in.v(0, h, i, d);
      }
  forward(View<const float, 4>(q), View<const float, 4>(k), View<const float, 4>(v),
          standard | causal | selective, out);
  const Outputs<float> want = attend(in, standard | causal | selective);
  for (Index h = 0; h < heads; ++h)
    for (Index i = 0; i < n; ++i)
      for (Index d = 0; d < dim; ++d)
        ASSERT_EQ(out(0, h, i, d), want.out(0, h, i, d)) << h << ' ' << i << ' ' << d;
}

#endif

}  // namespace
}  // namespace heed::test
