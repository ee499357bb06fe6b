// SPDX-License-Identifier: MIT
// Rules are values: the library's, by name and by their old names, and a user's own.

#include "heed/kv/eviction_rule.hpp"

#include "support/buffers.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace heed::test {
namespace {

/// A user's rules: what they judge by is what they say, and no more is handed to them.
struct Newest {
  static constexpr const char* name = "newest";
  static constexpr Evidence evidence = Evidence::age;
  Index recent(std::optional<Index>, Index) const { return 1; }
  template <class T>
  T claim(const HeldToken<T>& token) const {
    EXPECT_GE(token.position, 0);
    EXPECT_EQ(token.weight, T(0));
    return T(token.position);
  }
};

struct MultiplesStay {
  static constexpr const char* name = "multiples_stay";
  static constexpr Evidence evidence = Evidence::age;
  Index of = 1, last = 1;
  Index recent(std::optional<Index>, Index) const { return last; }
  template <class T>
  T claim(const HeldToken<T>& token) const {
    return token.position % of == 0 ? T(0) : T(1);
  }
};

struct MostAttended {
  static constexpr const char* name = "most_attended";
  static constexpr Evidence evidence = Evidence::weights;
  static constexpr double weights_kept = 1;
  Index recent(std::optional<Index>, Index) const { return 1; }
  template <class T>
  T claim(const HeldToken<T>& token) const {
    return token.weight;
  }
};

/// Not rules: no evidence, no number of recent tokens, weights of which it is not said what is
/// kept.
struct NoEvidence {
  static constexpr const char* name = "";
  Index recent(std::optional<Index>, Index) const { return 1; }
  template <class T>
  T claim(const HeldToken<T>&) const {
    return T(0);
  }
};
struct NoWeightsKept : NoEvidence {
  static constexpr Evidence evidence = Evidence::weights;
};
struct HasEvidence : NoEvidence {
  static constexpr Evidence evidence = Evidence::age;
};
static_assert(RuleOfEviction<HasEvidence> && !RuleOfEviction<NoEvidence> &&
              !RuleOfEviction<NoWeightsKept> && !RuleOfEviction<int>);

template <class T>
class Rules : public testing::Test {};
TYPED_TEST_SUITE(Rules, Scalars, ScalarName);

TYPED_TEST(Rules, OfAUsersOwnSayWhichTokenGoes) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(30, 8, 2, 1), 1);
  for (const Index chunk : {1, 4}) {
    const Buffered<T> got = through(KvOptions{.budget = 5, .evict = Newest{}, .chunk = chunk}, in);
    for (Index j = 0; j < 30; ++j)
      EXPECT_EQ(got.evict_row(0, j), j < 4 || j == 29 ? 30 : j + 1) << j;
  }
}

/// With numbers of its own, and as many recent tokens as it says. Of equals the oldest goes.
TYPED_TEST(Rules, HaveParameters) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(30, 8, 2, 1), 2);
  const KvOptions o{.budget = 7, .evict = MultiplesStay{.of = 10, .last = 3}, .protect = {}};
  EXPECT_EQ(o.recent_tokens(), 3);
  const Buffered<T> got = through(o, in);
  // Held are the multiples that have come and the last others: behind 10, five of them, behind 20,
  // four.
  EXPECT_EQ(got.evict_row(0, 0), 30);
  EXPECT_EQ(got.evict_row(0, 10), 30);
  EXPECT_EQ(got.evict_row(0, 20), 30);
  EXPECT_EQ(got.evict_row(0, 1), 7);
  EXPECT_EQ(got.evict_row(0, 9), 15);
  EXPECT_EQ(got.evict_row(0, 19), 24);
}

TYPED_TEST(Rules, GetWeightsIfTheyAskForThem) {
  using T = TypeParam;
  // The rows before token 2 share their weight out, all others give it to token 2: received are 1.5
  // by token 0 and 2 by token 2 when the fifth token comes.
  std::vector<std::vector<double>> scores(12, std::vector<double>(12, 0));
  for (auto& row : scores) row[2] = 60;
  const auto in = with_scores<T>(scores);
  const Buffered<T> got =
      through(KvOptions{.budget = 4, .evict = MostAttended{}, .protect = {}, .select = {}}, in);
  EXPECT_EQ(got.evict_row(0, 2), 4);
}

class RuleNames : public testing::Test {};

TEST_F(RuleNames, AreWhatTheyWereAsWell) {
  EXPECT_TRUE(EvictionRule(Evict::most_masked) == most_masked);
  EXPECT_TRUE(EvictionRule(Evict::least_attended) == heavy_hitters);
  EXPECT_TRUE(EvictionRule(Evict::oldest) == oldest);
  EXPECT_TRUE(KvOptions{}.evict == Evict::most_masked);
  EXPECT_FALSE(EvictionRule(oldest) == most_masked);
  EXPECT_FALSE(EvictionRule(heavy_hitters) == heavy_hitters(3));
  EXPECT_TRUE(EvictionRule(heavy_hitters(3)) == heavy_hitters(3));
  EXPECT_TRUE(EvictionRule(MultiplesStay{3, 4}) == (MultiplesStay{3, 4}));
  EXPECT_FALSE(EvictionRule(MultiplesStay{3, 4}) == (MultiplesStay{3, 5}));
  EXPECT_EQ(std::string(EvictionRule(heavy_hitters).name()), "heavy_hitters");
  EXPECT_EQ(message_of<ValueError>([] { KvOptions o{.evict = Evict(9)}; }),
            "evict is 9, must be most_masked, least_attended or oldest");
}

/// The options' number stands before the rule's.
TEST_F(RuleNames, SayHowManyTokensAreRecent) {
  EXPECT_EQ((KvOptions{.budget = 20, .evict = heavy_hitters}.recent_tokens()), 10);
  EXPECT_EQ((KvOptions{.budget = 20, .evict = heavy_hitters(3)}.recent_tokens()), 3);
  EXPECT_EQ((KvOptions{.budget = {}, .evict = heavy_hitters(3)}.recent_tokens()), 3);
  EXPECT_EQ((KvOptions{.budget = 20, .evict = heavy_hitters(3), .recent = 4}.recent_tokens()), 4);
  const auto refusal = [](const KvOptions& o) {
    return message_of<ValueError>([&] { KvBuffer<float>({.heads = 2}, o); });
  };
  EXPECT_EQ(refusal({.budget = 20, .evict = heavy_hitters(0)}),
            "recent is 0, the newest token itself always stays");
  EXPECT_EQ(refusal({.budget = 20, .evict = heavy_hitters(20)}),
            "budget is 20, must be at least 21: KvOptions::protect keeps 1, recent keeps 20");
  EXPECT_EQ(refusal({.budget = 20, .evict = MostAttended{}, .chunk = 3}),
            "most_attended goes token by token: chunk is 3, must be 1");
}

}  // namespace
}  // namespace heed::test
