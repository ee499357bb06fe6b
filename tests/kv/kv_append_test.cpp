// SPDX-License-Identifier: MIT
// Tokens computed elsewhere that are put into a sequence: what follows is what follows the steps
// that they stand for.

#include "heed/kv/kv_append.hpp"

#include "heed/attention/selective_attention.hpp"
#include "support/caches.hpp"
#include "support/quantized.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace heed::test::put_in {
namespace {

constexpr Index prompt = 60, more = 25;

template <class T>
Inputs<T> part(const Inputs<T>& text, Index from, Index to) {
  return {slice(text.q, from, to), slice(text.k, from, to), slice(text.v, from, to)};
}
/// The tokens at these positions: one list for all key heads, or one for each.
template <class T>
Tensor<T> pick(const Tensor<T>& x, const std::vector<std::vector<Index>>& lists) {
  Tensor<T> to(1, x.dimension(1), Index(lists[0].size()), x.dimension(3));
  for (Index g = 0; g < x.dimension(1); ++g) {
    const auto& list = lists[lists.size() == 1 ? 0 : std::size_t(g)];
    for (Index n = 0; n < Index(list.size()); ++n)
      for (Index d = 0; d < x.dimension(3); ++d)
        to(0, g, n, d) = list[std::size_t(n)] < 0 ? T(0) : x(0, g, list[std::size_t(n)], d);
  }
  return to;
}
Tensor<std::int64_t, 2> positions_of(const std::vector<std::vector<Index>>& lists) {
  Tensor<std::int64_t, 2> to(Index(lists.size()), Index(lists[0].size()));
  for (Index p = 0; p < to.dimension(0); ++p)
    for (Index n = 0; n < to.dimension(1); ++n) to(p, n) = lists[std::size_t(p)][std::size_t(n)];
  return to;
}

/// F of the row behind a prompt, as forward() has it.
template <class T>
Tensor<T, 2> f_behind(const Inputs<T>& read) {
  Tensor<T> out(1, 4, prompt, 8);
  Tensor<T, 2> f(1, prompt);
  forward(read.q, read.k, read.v, standard | causal | selective.carry_out(f), out);
  return f;
}

template <class T>
class PutIn : public testing::Test {
 protected:
  const Inputs<T> text = rows_for<T>(1, prompt + more, 21);

  KvCache<T> cache(const KvOptions& o) const {
    return {cache_shape, o, KvPool<T>(8, 8, {.page = small_page<T>})};
  }
  /// Both go on alike, token by token.
  void expect_to_go_on(KvCache<T>& cache, KvSequence<T>& got, KvSequence<T>& want) const {
    ASSERT_EQ(got.next(), want.next());
    for (Index i = prompt; i < prompt + more; ++i) {
      EXPECT_TRUE(close(take(cache, got, part(text, i, i + 1)),
                        take(cache, want, part(text, i, i + 1)), 8 * tolerance<T>))
          << i;
      for (Index g = 0; g < 2; ++g) ASSERT_EQ(held_positions(got, g), held_positions(want, g)) << i;
    }
  }
};
TYPED_TEST_SUITE(PutIn, Scalars, ScalarName);

/// A prompt goes through the fast path, with F; the cache takes its keys and goes on.
TYPED_TEST(PutIn, GoOnFromAPromptThatForwardTook) {
  using T = TypeParam;
  const Inputs<T> read = part(this->text, 0, prompt);
  const Tensor<T, 2> f = f_behind(read);
  for (const std::optional<Index> budget : {std::optional<Index>(), std::optional<Index>(17)}) {
    KvCache<T> cache = this->cache({.budget = budget});
    KvSequence<T> want = cache.open(), got = cache.open();
    take(cache, want, read);
    // F of a token does not depend on who else is held: that of forward() is that of the cache.
    const std::vector<std::vector<Index>> stay{held_positions(want)};
    const Tensor<std::int64_t, 2> positions = positions_of(stay);
    Tensor<T, 2> f_of(1, positions.dimension(1));
    for (Index n = 0; n < f_of.size(); ++n) f_of(n) = f(positions(n));
    cache.append(got, pick(read.k, stay), pick(read.v, stay), {.positions = positions, .f = f_of});
    EXPECT_EQ(got.pages(), 2 * pages_of(got.count(), small_page<T>));
    this->expect_to_go_on(cache, got, want);
  }
}

/// The rest goes when the budget comes.
TYPED_TEST(PutIn, AreCutAfterwards) {
  using T = TypeParam;
  const Inputs<T> read = part(this->text, 0, prompt);
  const Tensor<T, 2> f = f_behind(read);
  KvCache<T> cache = this->cache({});
  KvSequence<T> want = cache.open(), got = cache.open();
  take(cache, want, read);
  // In two pieces, from a tensor that is not contiguous.
  const Tensor<T, 2> f_of_rest =
      f.slice(Eigen::array<Index, 2>{0, 23}, Eigen::array<Index, 2>{1, prompt - 23});
  cache.append(got, slice(read.k, 0, 23), slice(read.v, 0, 23),
               {.f = View<const T, 2>(f.data(), {1, 23})});
  cache.append(got, slice(read.k, 23, prompt), slice(read.v, 23, prompt), {.f = f_of_rest});
  cache.set_budget(want, 20), cache.set_budget(got, 20);
  this->expect_to_go_on(cache, got, want);
}

/// Weights received come with the tokens, and each head may have its own, of any number.
TYPED_TEST(PutIn, ComeWithTheirWeightsForEachHead) {
  using T = TypeParam;
  for (const KvHeads heads : {KvHeads::together, KvHeads::apart, KvHeads::shared})
    for (const bool turns : {false, true}) {
      KvOptions o{.budget = 15, .evict = heavy_hitters, .heads = heads, .select = {}};
      if (turns) o.rotary.emplace(8);
      KvCache<T> cache = this->cache(o);
      KvSequence<T> want = cache.open(), got = cache.open();
      take(cache, want, part(this->text, 0, prompt));
      std::vector<std::vector<Index>> lists;
      const Index parts = heads == KvHeads::together ? 1 : 2;
      Index longest = 0;
      for (Index p = 0; p < parts; ++p) {
        lists.push_back(held_positions(want, p));
        longest = std::max(longest, Index(lists.back().size()));
      }
      Tensor<T, 2> weights(parts, longest);
      weights.setZero();
      for (Index p = 0; p < parts; ++p) {
        for (Index n = 0; n < want.count(p); ++n)
          weights(p, n) = want.held(p)[std::size_t(n)].weight;
        lists[std::size_t(p)].resize(std::size_t(longest), -1);
      }
      const Tensor<std::int64_t, 2> positions = positions_of(lists);
      cache.append(got, pick(this->text.k, lists), pick(this->text.v, lists),
                   {.positions = positions, .weights = weights});
      for (Index g = 0; g < 2; ++g) EXPECT_EQ(got.count(g), want.count(g));
      this->expect_to_go_on(cache, got, want);
    }
}

/// Of 8 bits, behind a fork that shares its pages, with positions that were left out.
using PutInFloat = PutIn<float>;
TEST_F(PutInFloat, MayBeQuantizedAndLeaveGaps) {
  using T = float;
  KvCache<T> cache = this->cache({.select = {}});
  KvSequence<T> from = cache.open();
  take(cache, from, part(this->text, 0, 7));
  from.drop(2, 4);
  const KvSequence<T> before = from;
  KvSequence<T> got = from, want = from;
  const StoredTensor<T, std::int8_t> k(slice(this->text.k, 7, 40)), v(slice(this->text.v, 7, 40));
  Tensor<T> out(1, 4, 33, 8);
  KvSequence<T>* const one[] = {&want};
  standard_step_of(cache, one, Tensor<T>(slice(this->text.q, 7, 40)), k.argument(), v.argument(),
                   out);
  want.drop(30, 40);
  take(cache, want, part(this->text, prompt - 5, prompt));
  cache.append(got, k.argument(), v.argument(), {.next = 50});
  EXPECT_EQ(got.next(), 50);
  got.drop(30, 40);
  Tensor<std::int64_t, 2> late(1, 5);
  for (Index n = 0; n < 5; ++n) late(n) = 55 + n;
  cache.append(got, slice(this->text.k, prompt - 5, prompt),
               slice(this->text.v, prompt - 5, prompt), {.positions = late});
  EXPECT_EQ(got.next(), prompt);
  EXPECT_TRUE(close(take(cache, got, part(this->text, 60, 70)),
                    take(cache, want, part(this->text, 60, 70)), 8 * tolerance<T>));
  EXPECT_TRUE(same_memory(from, before));
}

TYPED_TEST(PutIn, AreRefusedBeforeAnythingChanges) {
  using T = TypeParam;
  const Inputs<T> read = part(this->text, 0, 12);
  Tensor<T, 2> numbers(1, 12);
  numbers.setZero();
  KvCache<T> selects = this->cache({.budget = 10}),
             plain = this->cache({.budget = 10, .select = {}}),
             weighs = this->cache({.budget = 12, .evict = heavy_hitters, .select = {}});
  const auto said = [&](KvCache<T>& cache, Index count, const KvAppend<T>& known) {
    KvSequence<T> s = cache.open();
    const KvSequence<T> before = s;
    std::string words;
    try {
      cache.append(s, slice(read.k, 0, count), slice(read.v, 0, count), known);
    } catch (const std::exception& error) {
      words = error.what();
    }
    EXPECT_TRUE(same_memory(s, before));
    return words;
  };
  const View<const T, 2> f(numbers.data(), {1, 12});
  EXPECT_EQ(said(selects, 12, {.f = f}),
            "append: 12 tokens would be held, the budget is 10; append without a budget, and "
            "set_budget() evicts the rest");
  EXPECT_EQ(said(selects, 5, {}),
            "append: f is missing, the cache selects and evicts by most_masked");
  EXPECT_EQ(said(plain, 12, {.f = f}),
            "append: f is given, the cache does not select and evicts by most_masked");
  EXPECT_NE(said(weighs, 12, {}).find("weights is missing"), std::string::npos);
  EXPECT_NE(said(plain, 12, {.weights = f}).find("weights is given"), std::string::npos);
  EXPECT_NE(said(selects, 5, {.f = f}).find("f is [1, 12]"), std::string::npos);
  const std::vector<std::int64_t> falls{0, 2, 2}, rises{3, 7, 9};
  EXPECT_EQ(said(plain, 3, {.positions = {falls.data(), {1, 3}}}).substr(0, 37),
            "append: position 2 follows 2: positio");
  EXPECT_EQ(said(plain, 3, {.positions = {rises.data(), {1, 3}}, .next = 9}),
            "append: next is 9, the last token is at 9: it must be behind, and at most " +
                std::to_string(heed::detail::max_position));
  EXPECT_NE(said(plain, 2, {.positions = {rises.data(), {1, 3}}}).find("positions is [1, 3]"),
            std::string::npos);
  // A pool that runs dry.
  KvCache<T> small({1, 4, 2, 8, 8}, {.select = {}},
                   KvPool<T>(8, 8, {.page = small_page<T>, .pages = 3}));
  KvSequence<T> s = small.open();
  const Inputs<T> long_text = rows_for<T>(1, 2 * small_page<T>, 3);
  EXPECT_THROW(small.append(s, long_text.k, long_text.v), OutOfPages);
  EXPECT_EQ(s.next(), 0);
  EXPECT_EQ(small.pool().pages_held(), 0);
  small.append(s, slice(long_text.k, 0, 9), slice(long_text.v, 0, 9));
  EXPECT_EQ(small.pool().pages_held(), 2);
  EXPECT_THROW(plain.append(s, read.k, read.v), ValueError);
}

}  // namespace
}  // namespace heed::test::put_in
