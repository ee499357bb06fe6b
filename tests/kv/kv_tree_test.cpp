// SPDX-License-Identifier: MIT
// A tree of drafted tokens in one step, and queries that add no tokens.
#include "heed/score/alibi.hpp"
#include "support/caches.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace heed::test::trees {
namespace {

constexpr Index heads = 4, key_heads = 2, dim = 8, held_before = 21;

/// Two drafts that part twice, and one of its own: −1 is the last token held.
const std::vector<Index> tree = {-1, 0, 1, 1, 0, 4, -1, 6, 7};
const Index drafts = Index(tree.size());

template <class T>
class Trees : public testing::Test {
 protected:
  const Inputs<T> in = inputs<T>(tokens(held_before + drafts, dim, heads, key_heads, 2), 3);
  KvCache<T> cache{KvShape{1, heads, key_heads, dim, dim}, {.select = {}}};
  KvSequence<T> a = cache.open(), b = cache.open();

  void SetUp() override {
    Tensor<T> out(2, heads, held_before, dim);
    cache.step({&a, &b}, slice(in.q, 0, held_before), slice(in.k, 0, held_before),
               slice(in.v, 0, held_before), variant(), out);
  }
  /// Reads positions, so that a row at the wrong depth shows.
  static auto variant() { return standard | alibi(); }

  Tensor<T> step_of(KvCache<T>& by, std::initializer_list<KvSequence<T>*> sequences,
                    const Inputs<T>& rows, const KvStep<T>& options = {}) {
    Tensor<T> out(rows.q.dimension(0), heads, rows.q.dimension(2), dim);
    by.step(sequences, rows.q, rows.k, rows.v, variant(), out, options);
    return out;
  }
  /// Rows of one sequence, by their numbers among the drafts.
  Inputs<T> rows_of(Index sequence, const std::vector<Index>& numbers) const {
    const auto pick = [&](const Tensor<T>& x) {
      Tensor<T> to(1, x.dimension(1), Index(numbers.size()), dim);
      for (Index h = 0; h < x.dimension(1); ++h)
        for (Index n = 0; n < Index(numbers.size()); ++n)
          for (Index d = 0; d < dim; ++d)
            to(0, h, n, d) = x(sequence, h, held_before + numbers[std::size_t(n)], d);
      return to;
    };
    return {pick(in.q), pick(in.k), pick(in.v)};
  }
  static std::vector<Index> path_to(Index n) {
    std::vector<Index> path;
    for (; n >= 0; n = tree[std::size_t(n)]) path.insert(path.begin(), n);
    return path;
  }
  static Tensor<std::int64_t, 2> parents(Index batch) {
    Tensor<std::int64_t, 2> to(batch, drafts);
    for (Index s = 0; s < batch; ++s)
      for (Index n = 0; n < drafts; ++n) to(s, n) = tree[std::size_t(n)];
    return to;
  }
  Inputs<T> all_drafts() const {
    return {slice(in.q, held_before, held_before + drafts),
            slice(in.k, held_before, held_before + drafts),
            slice(in.v, held_before, held_before + drafts)};
  }
};
TYPED_TEST_SUITE(Trees, Scalars, ScalarName);

/// Each row is what it would be if its path were the only one.
TYPED_TEST(Trees, AreSeenPathByPath) {
  using T = TypeParam;
  const Tensor<std::int64_t, 2> parents = this->parents(2);
  KvSequence<T> x = this->a, y = this->b;
  const Tensor<T> got =
      this->step_of(this->cache, {&x, &y}, this->all_drafts(), {.parents = parents});
  for (Index sequence = 0; sequence < 2; ++sequence)
    for (Index n = 0; n < drafts; ++n) {
      KvSequence<T> alone = sequence == 0 ? this->a : this->b;
      const std::vector<Index> path = this->path_to(n);
      const Tensor<T> want = this->step_of(this->cache, {&alone}, this->rows_of(sequence, path));
      for (Index h = 0; h < heads; ++h)
        for (Index d = 0; d < dim; ++d)
          ASSERT_NEAR(got(sequence, h, n, d), want(0, h, Index(path.size()) - 1, d),
                      4 * tolerance<T>)
              << n;
    }
}

/// Trees of different sizes, packed, are what they are alone.
TYPED_TEST(Trees, AreSeenInPackedRows) {
  using T = TypeParam;
  const Index few = 5;  // of the second sequence
  const Packed<T> rows = packed(this->all_drafts(), {drafts, few});
  Tensor<std::int64_t, 2> parents(1, drafts + few), alone(1, few);
  for (Index n = 0; n < drafts; ++n) parents(0, n) = tree[std::size_t(n)];
  for (Index n = 0; n < few; ++n) parents(0, drafts + n) = alone(0, n) = tree[std::size_t(n)];
  KvSequence<T> x = this->a, y = this->b, want_x = this->a, want_y = this->b;
  Tensor<T, 3> out(drafts + few, heads, dim), lse(1, heads, drafts + few);
  std::vector<KvSequence<T>*> both{&x, &y};
  this->cache.step_packed(both, View<const std::int64_t, 1>(rows.starts.data(), {3}), rows.q,
                          rows.k, rows.v, this->variant(), out, {.lse = lse, .parents = parents});
  const Tensor<std::int64_t, 2> whole = this->parents(1);
  std::vector<Index> every, first;
  for (Index n = 0; n < drafts; ++n) every.push_back(n);
  for (Index n = 0; n < few; ++n) first.push_back(n);
  const Tensor<T> want[] = {
      this->step_of(this->cache, {&want_x}, this->rows_of(0, every), {.parents = whole}),
      this->step_of(this->cache, {&want_y}, this->rows_of(1, first), {.parents = alone})};
  for (Index s = 0; s < 2; ++s)
    for (Index n = 0; n < (s == 0 ? drafts : few); ++n)
      for (Index h = 0; h < heads; ++h)
        for (Index d = 0; d < dim; ++d)
          ASSERT_EQ(out(s * drafts + n, h, d), want[s](0, h, n, d)) << s << ' ' << n;
  EXPECT_TRUE(same_memory(x, want_x));
  EXPECT_TRUE(same_memory(y, want_y));
  y.accept(held_before, this->path_to(3));
  EXPECT_EQ(y.next(), held_before + 3);
  // A tree that reaches into the rows of another sequence.
  parents(0, drafts) = 0;
  EXPECT_NE(message_of<ValueError>([&] {
              this->cache.step_packed(both, View<const std::int64_t, 1>(rows.starts.data(), {3}),
                                      rows.q, rows.k, rows.v, this->variant(), out,
                                      {.parents = parents});
            }).find("parents of sequence 1: token 0 follows token 0"),
            std::string::npos);
  EXPECT_TRUE(same_memory(x, want_x));
}

/// What is accepted goes on as if only it had been appended.
TYPED_TEST(Trees, GoOnWithTheAcceptedPath) {
  using T = TypeParam;
  const Tensor<std::int64_t, 2> parents = this->parents(1);
  for (const Index leaf : {Index(3), Index(5), Index(8), Index(0), Index(-1)}) {
    const std::vector<Index> path = this->path_to(leaf);
    std::vector<Index> every;
    for (Index n = 0; n < drafts; ++n) every.push_back(n);
    KvSequence<T> x = this->a, want = this->a;
    this->step_of(this->cache, {&x}, this->rows_of(0, every), {.parents = parents});
    x.accept(held_before, path);
    if (!path.empty()) this->step_of(this->cache, {&want}, this->rows_of(0, path));
    EXPECT_EQ(x.next(), held_before + Index(path.size()));
    EXPECT_EQ(held(x), held(want));
    const Inputs<T> more = this->rows_of(1, {0, 1});
    EXPECT_TRUE(close(this->step_of(this->cache, {&x}, more),
                      this->step_of(this->cache, {&want}, more), 4 * tolerance<T>));
  }
}

TYPED_TEST(Trees, AreRefusedIfTheyAreNone) {
  using T = TypeParam;
  std::vector<Index> every;
  for (Index n = 0; n < drafts; ++n) every.push_back(n);
  const Inputs<T> rows = this->rows_of(0, every);
  const auto said = [&](Index at, std::int64_t parent) {
    Tensor<std::int64_t, 2> wrong = this->parents(1);
    wrong(0, at) = parent;
    KvSequence<T> x = this->a;
    const std::string words =
        message_of<ValueError>([&] { this->step_of(this->cache, {&x}, rows, {.parents = wrong}); });
    EXPECT_TRUE(same_memory(x, this->a));
    return words;
  };
  EXPECT_EQ(said(6, 3),
            "parents of sequence 0: token 6 follows token 3, which is neither the one before nor "
            "one that this descends from");
  EXPECT_NE(said(3, 3).find("token 3 follows token 3"), std::string::npos);
  EXPECT_NE(said(3, -2).find("token 3 follows token -2"), std::string::npos);
  EXPECT_NE(said(0, 5).find("token 0 follows token 5"), std::string::npos);
  const Tensor<std::int64_t, 2> right = this->parents(1);
  KvCache<T> selects(this->cache.shape(), {}),
      small(this->cache.shape(), {.budget = 8, .select = {}});
  KvSequence<T> x = selects.open(), y = small.open();
  EXPECT_NE(message_of<ValueError>([&] {
              this->step_of(selects, {&x}, rows, {.parents = right});
            }).find("but they would vote"),
            std::string::npos);
  EXPECT_NE(message_of<ValueError>([&] {
              this->step_of(small, {&y}, rows, {.parents = right});
            }).find("a tree of 9 tokens, must be at most 8"),
            std::string::npos);
  KvSequence<T> z = this->a;
  const std::vector<Index> falls{2, 1}, beyond{9};
  this->step_of(this->cache, {&z}, rows, {.parents = right});
  EXPECT_NE(message_of<ValueError>([&] { z.accept(held_before, falls); }).find("must rise"),
            std::string::npos);
  EXPECT_NE(message_of<ValueError>([&] { z.accept(held_before, beyond); }).find("9 of 9"),
            std::string::npos);
  EXPECT_EQ(z.next(), held_before + drafts);
}

/// Accepted tokens are protected by the positions they get, not by those they had as drafts.
TYPED_TEST(Trees, ProtectByTheFinalPosition) {
  using T = TypeParam;
  KvCache<T> protects(KvShape{1, heads, key_heads, dim, dim},
                      {.budget = 30, .evict = oldest, .protect = {0, 23, 27}, .select = {}});
  KvSequence<T> x = protects.open();
  std::vector<Index> every;
  for (Index n = 0; n < drafts; ++n) every.push_back(n);
  Tensor<T> out(1, heads, held_before, dim);
  const auto first = [](const Tensor<T>& rows) {
    return Tensor<T>(slice(rows, 0, held_before)
                         .slice(Eigen::array<Index, 4>{0, 0, 0, 0},
                                Eigen::array<Index, 4>{1, rows.dimension(1), held_before, dim}));
  };
  protects.step({&x}, first(this->in.q), first(this->in.k), first(this->in.v), this->variant(),
                out);
  const Tensor<std::int64_t, 2> parents = this->parents(1);
  this->step_of(protects, {&x}, this->rows_of(0, every), {.parents = parents});
  x.accept(held_before, this->path_to(8));  // from 27, 28 and 29 to 21, 22 and 23
  for (int n = 0; n < 6; ++n) this->step_of(protects, {&x}, this->rows_of(1, every));
  std::vector<Index> oldest_held;
  for (const KvToken<T>& token : x.held(0)) oldest_held.push_back(token.position);
  ASSERT_EQ(oldest_held.size(), 30u);
  oldest_held.resize(4);
  EXPECT_EQ(oldest_held, (std::vector<Index>{0, 23, 27, 51}));
}

/// Queries of another layer see the keys of this one, each up to its own token.
TYPED_TEST(Trees, AreNotNeededToAttendAgain) {
  using T = TypeParam;
  const Inputs<T> text = inputs<T>(tokens(40, dim, heads, key_heads, 2), 5);
  KvBuffer<T> whole = buffer_for(text, {.select = {}});
  Buffered<T> want = answers_to(text);
  step(whole, text, 0, 40, want);
  KvCache<T> layer(KvShape{1, heads, key_heads, dim, dim}, {});  // its F does not matter here
  KvSequence<T> one = layer.open(), other = layer.open();
  Tensor<T> out(2, heads, 40, dim), again(2, heads, 40, dim);
  layer.step({&one, &other}, text.q, text.k, text.v, standard, out);
  const KvSequence<T> before = one;
  std::vector<KvSequence<T>*> both{&one, &other};
  layer.attend(both, text.q, standard, again);
  EXPECT_TRUE(close(again, array(want.out)));
  EXPECT_TRUE(same_memory(one, before));
  EXPECT_EQ(one.next(), 40);
  Tensor<T> last(2, heads, 7, dim);
  layer.attend(both, slice(text.q, 33, 40), standard, last);
  EXPECT_TRUE(close(last, array(Tensor<T>(slice(want.out, 33, 40)))));
  KvSequence<T> empty = layer.open();
  std::vector<KvSequence<T>*> no_tokens{&empty};
  const Tensor<T> q = this->rows_of(0, {0}).q;
  Tensor<T> none(1, heads, 1, dim);
  EXPECT_EQ(message_of<ValueError>([&] { layer.attend(no_tokens, q, standard, none); }),
            "attend: sequence 0 has 0 tokens, there are 1 rows");
}

}  // namespace
}  // namespace heed::test::trees
