// SPDX-License-Identifier: MIT
#include "heed/core/dispatch.hpp"

#include <gtest/gtest.h>

#include <string>

#if defined(__x86_64__)

namespace heed::test {
namespace {

/// Stands for a table of kernels: knows whose it is.
struct Owner {
  int level;
};

}  // namespace
}  // namespace heed::test

namespace heed::arch {

#define HEED_TEST_TABLE(Arch)                                     \
  template <>                                                     \
  const heed::test::Owner& table_for<heed::test::Owner, Arch>() { \
    static constexpr heed::test::Owner owner{Arch::level};        \
    return owner;                                                 \
  }
HEED_TEST_TABLE(x86_64)
HEED_TEST_TABLE(x86_64_v2)
HEED_TEST_TABLE(x86_64_v3)
HEED_TEST_TABLE(x86_64_v4)
HEED_TEST_TABLE(x86_64_v4_bf16)
#undef HEED_TEST_TABLE

}  // namespace heed::arch

namespace heed::test {
namespace {

template <class... Archs>
Kernels<Owner> choose(int offered, const char* asked = nullptr) {
  return heed::detail::choose<Owner>(arch::List<Archs...>(), offered, asked);
}

template <class... Archs>
std::string refusal(int offered, const char* asked = nullptr) {
  try {
    choose<Archs...>(offered, asked);
  } catch (const ValueError& e) {
    return e.what();
  }
  return "none";
}

TEST(Dispatch, ChoosesTheHighestLevelThatIsOffered) {
  for (int offered = 1; offered <= 5; ++offered) {
    const auto every = choose<arch::x86_64_v3, arch::x86_64, arch::x86_64_v4_bf16, arch::x86_64_v4,
                              arch::x86_64_v2>(offered);
    EXPECT_EQ(every->level, offered);
  }
  EXPECT_EQ((choose<arch::x86_64, arch::x86_64_v3>(4)->level), 3);
  EXPECT_EQ((choose<arch::x86_64, arch::x86_64_v3>(2)->level), 1);
  EXPECT_STREQ((choose<arch::x86_64, arch::x86_64_v3>(3).arch()), "x86-64-v3");
}

TEST(Dispatch, TakesTheOneThatIsAskedFor) {
  EXPECT_EQ((choose<arch::x86_64, arch::x86_64_v2, arch::x86_64_v3>(4, "x86-64-v2")->level), 2);
}

TEST(Dispatch, RefusesWhatThisProcessorCannotRun) {
  EXPECT_EQ((refusal<arch::x86_64_v3, arch::x86_64_v4>(2)),
            "the kernels are compiled for x86-64-v3, x86-64-v4, this processor offers x86-64-v2");
  EXPECT_EQ((refusal<arch::x86_64, arch::x86_64_v4>(3, "x86-64-v4")),
            "HEED_ARCH is x86-64-v4, this processor offers x86-64-v3");
  EXPECT_EQ((refusal<arch::x86_64, arch::x86_64_v3>(4, "haswell")),
            "HEED_ARCH is haswell, the kernels are compiled for x86-64, x86-64-v3");
}

/// The tests are compiled for this processor or a lesser one.
TEST(Dispatch, KnowsWhatThisProcessorOffers) {
  EXPECT_GE(offered_level(), compiled_level);
  EXPECT_LE(offered_level(), 5);
}

}  // namespace
}  // namespace heed::test

#endif
