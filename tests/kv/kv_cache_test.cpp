// SPDX-License-Identifier: MIT
// The cache of a layer: sequences that come and go, in steps of any of them; the pages they hold;
// a pool that runs dry; and what is refused.

#include "heed/kv/kv_cache.hpp"

#include "heed/core/thread_pool.hpp"
#include "heed/engine/quantize.hpp"
#include "support/caches.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace heed::test {
namespace {

template <class T>
class Caches : public testing::Test {
 protected:
  using Pool = KvPool<T>;
  static constexpr Index small = small_page<T>;

  static std::vector<KvSequence<T>*> pointers(std::vector<KvSequence<T>>& sequences) {
    std::vector<KvSequence<T>*> all;
    for (KvSequence<T>& s : sequences) all.push_back(&s);
    return all;
  }
  /// Answers that are not written are NaN.
  static Tensor<T> answers(Index batch, Index rows) {
    Tensor<T> out(batch, cache_shape.heads, rows, cache_shape.value_dim);
    out.setConstant(std::numeric_limits<T>::quiet_NaN());
    return out;
  }
  static View<const std::int64_t, 1> view(const std::vector<std::int64_t>& x) {
    return {x.data(), {Index(x.size())}};
  }
  /// Rules and times of eviction, with and without selection.
  static std::vector<KvOptions> many_options(Index budget) {
    std::vector<KvOptions> all;
    for (const EvictionRule& rule :
         {EvictionRule(most_masked), EvictionRule(heavy_hitters), EvictionRule(oldest)})
      for (const EvictWhen when :
           {EvictWhen::before_row, EvictWhen::after_row, EvictWhen::chunk_end})
        all.push_back({.budget = budget, .evict = rule, .when = when});
    all.push_back({.budget = budget, .evict = oldest, .select = {}});
    all.push_back({});
    return all;
  }
};
TYPED_TEST_SUITE(Caches, Scalars, ScalarName);

// ---- steps of several

/// Any sequences, in any order, with any number of rows each, dense or packed: each answers as it
/// does alone.
TYPED_TEST(Caches, StepSequencesTogetherAsAlone) {
  using T = TypeParam;
  for (const KvOptions& o : this->many_options(20)) {
    SCOPED_TRACE(describe(o));
    KvCache<T> cache(cache_shape, o), one(cache_shape, o);
    std::vector<KvSequence<T>> dense(5), flat(5), alone(5);
    for (std::size_t b = 0; b < 5; ++b) {
      dense[b] = flat[b] = filled(cache, Index(1 + 17 * b), b);
      alone[b] = filled(one, Index(1 + 17 * b), b);
    }
    const std::vector<std::vector<std::size_t>> members{{0, 1, 2, 3, 4}, {3, 1}, {4}, {2, 0, 4}};
    const std::vector<std::vector<std::int64_t>> counts{{1, 1, 1, 1, 1}, {0, 7}, {3}, {100, 0, 5}};
    for (std::size_t round = 0; round < members.size(); ++round) {
      const Index B = Index(members[round].size()),
                  N = *std::max_element(counts[round].begin(), counts[round].end());
      const Inputs<T> in = rows_for<T>(B, N, 50 + round);
      const Packed<T> rows = packed(in, counts[round]);
      std::vector<KvSequence<T>*> of_dense, of_flat;
      for (const std::size_t b : members[round])
        of_dense.push_back(&dense[b]), of_flat.push_back(&flat[b]);
      Tensor<T> out = this->answers(B, N);
      Tensor<T, 3> lse(B, 4, N), flat_out(rows.q.dimension(0), 4, 8),
          flat_lse(1, 4, rows.q.dimension(0));
      standard_step(cache, of_dense, in, out, {.lse = lse, .tokens = this->view(counts[round])});
      standard_step(cache, of_flat, rows, flat_out, {.lse = flat_lse});
      for (Index b = 0; b < B; ++b) {
        const Index n = Index(counts[round][std::size_t(b)]),
                    first = Index(rows.starts[std::size_t(b)]);
        KvSequence<T>& own = alone[members[round][std::size_t(b)]];
        Tensor<T, 3> own_lse(1, 4, n);
        const Tensor<T> want = take(one, own, batch_of(in, b, n), {.lse = own_lse});
        EXPECT_TRUE(same_bits(batch_of(out, b, n), want)) << "round " << round << ", " << b;
        for (Index h = 0; h < 4; ++h)
          for (Index i = 0; i < N; ++i) {
            const T expected = i < n ? own_lse(0, h, i) : -std::numeric_limits<T>::infinity();
            EXPECT_EQ(lse(b, h, i), expected);
            if (i < n) {
              EXPECT_EQ(flat_lse(0, h, first + i), expected);
            }
            for (Index d = 0; d < 8; ++d) {
              EXPECT_EQ(out(b, h, i, d), i < n ? want(0, h, i, d) : T(0));
              if (i < n) {
                EXPECT_EQ(flat_out(first + i, h, d), want(0, h, i, d));
              }
            }
          }
      }
      for (std::size_t b = 0; b < 5; ++b) {
        EXPECT_TRUE(same_memory(dense[b], alone[b])) << "round " << round << ", " << b;
        EXPECT_TRUE(same_memory(flat[b], alone[b])) << "round " << round << ", " << b;
      }
    }
  }
}

/// Heads share a tile where a sequence has few rows. How many must not be for the longest sequence
/// of the batch to decide.
TYPED_TEST(Caches, AnswerAloneAsInTheCompanyOfLongSequences) {
  using T = TypeParam;
  for (const Index heads : {4, 16}) {
    const KvShape shape{1, heads, 1, 8, 8};
    KvCache<T> cache(shape, {});
    const std::vector<std::int64_t> counts{96, 7, 1, 2, 30};
    const Inputs<T> in = rows_for<T>(5, 96, 3, shape);
    std::vector<KvSequence<T>> together(5);
    for (std::size_t b = 0; b < 5; ++b) together[b] = filled(cache, 50, b);
    std::vector<KvSequence<T>> alone = together;
    Tensor<T> out(5, heads, 96, 8);
    standard_step(cache, this->pointers(together), in, out, {.tokens = this->view(counts)});
    for (Index b = 0; b < 5; ++b) {
      const Index n = Index(counts[std::size_t(b)]);
      const Tensor<T> want = take(cache, alone[std::size_t(b)], batch_of(in, b, n));
      EXPECT_TRUE(same_bits(batch_of(out, b, n), want)) << heads << " heads, " << n << " rows";
      EXPECT_TRUE(same_memory(together[std::size_t(b)], alone[std::size_t(b)]));
    }
  }
}

TYPED_TEST(Caches, AnswerTheSameWithAnyNumberOfThreads) {
  using T = TypeParam;
  for (const KvOptions& o : this->many_options(20)) {
    SCOPED_TRACE(describe(o));
    KvCache<T> cache(cache_shape, o);
    std::vector<KvSequence<T>> start;
    for (std::uint64_t b = 0; b < 3; ++b) start.push_back(filled(cache, Index(10 * b + 1), b));
    const Inputs<T> in = rows_for<T>(3, 30, 7);
    const std::vector<std::int64_t> counts{30, 0, 11};
    std::vector<KvSequence<T>> alone = start;
    Tensor<T> want = this->answers(3, 30);
    standard_step(cache, this->pointers(alone), in, want, {.tokens = this->view(counts)});
    for (const int workers : {1, 2, 3, 5}) {
      Eigen::ThreadPool threads(workers);
      std::vector<KvSequence<T>> together = start;
      Tensor<T> out = this->answers(3, 30);
      standard_step(cache, this->pointers(together), in, out,
                    {.tokens = this->view(counts), .executor = executor(threads)});
      EXPECT_TRUE(same_bits(out, want)) << workers;
      for (std::size_t b = 0; b < 3; ++b) EXPECT_TRUE(same_memory(together[b], alone[b]));
    }
  }
}

/// More sequences than a step has room for on its stack.
TYPED_TEST(Caches, StepAnyNumberOfSequences) {
  using T = TypeParam;
  KvCache<T> cache(cache_shape, {.budget = 9});
  for (const Index B : {15, 16, 17, 40}) {
    std::vector<KvSequence<T>> all(std::size_t(B), filled(cache, 12, 1)), alone = all;
    const Inputs<T> in = rows_for<T>(B, 2, 5);
    Tensor<T> out = this->answers(B, 2);
    standard_step(cache, this->pointers(all), in, out);
    for (Index b = 0; b < B; ++b) {
      EXPECT_TRUE(
          same_bits(batch_of(out, b, 2), take(cache, alone[std::size_t(b)], batch_of(in, b, 2))));
      EXPECT_TRUE(same_memory(all[std::size_t(b)], alone[std::size_t(b)]));
    }
    std::vector<KvSequence<T>*> twice = this->pointers(all);
    std::swap(twice[1], twice.back());
    twice[0] = twice.back();
    EXPECT_EQ(message_of<ValueError>([&] { standard_step(cache, twice, in, out); }),
              "a step names one sequence twice");
    for (std::size_t b = 0; b < all.size(); ++b) EXPECT_TRUE(same_memory(all[b], alone[b]));
  }
}

/// Nothing to do is done.
TYPED_TEST(Caches, StepNoSequencesAndNoRows) {
  using T = TypeParam;
  KvCache<T> cache(cache_shape, {.budget = 9});
  KvSequence<T> s = filled(cache, 12, 1);
  const KvSequence<T> before = s;
  Tensor<T> out = this->answers(0, 3), none = this->answers(1, 0);
  EXPECT_EQ(standard_step(cache, {}, rows_for<T>(0, 3, 1), out).pairs, 0);
  KvSequence<T>* const one[] = {&s};
  EXPECT_EQ(standard_step(cache, one, rows_for<T>(1, 0, 1), none).pairs, 0);
  Packed<T> rows = packed(rows_for<T>(1, 0, 1), {0});
  Tensor<T, 3> flat(0, 4, 8);
  standard_step(cache, one, rows, flat);
  rows.starts = {0};
  standard_step(cache, {}, rows, flat);
  const std::vector<std::int64_t> zero{0};
  Tensor<T> three = this->answers(1, 3);
  standard_step(cache, one, rows_for<T>(1, 3, 1), three, {.tokens = this->view(zero)});
  EXPECT_TRUE(same_bits(three, Tensor<T>(three.constant(T(0)))));
  EXPECT_TRUE(same_memory(s, before));
  EXPECT_EQ(cache.pool().pages_held(), s.pages());
}

/// Tokens of 16 bits, and quantized ones, are those widened beforehand.
TEST(CachesOfFloat, TakeStoredTokens) {
  KvCache<float> cache(cache_shape, {.budget = 9});
  const KvSequence<float> start = filled(cache, 12, 1);
  const Inputs<float> in = rows_for<float>(1, 5, 2);
  const auto expect = [&](const auto& k, const auto& v, const Tensor<float>& wide_k,
                          const Tensor<float>& wide_v) {
    KvSequence<float> a = start, b = start;
    KvSequence<float>* const one[] = {&a};
    Tensor<float> out(1, 4, 5, 8);
    standard_step_of(cache, one, in.q, k, v, out);
    EXPECT_TRUE(same_bits(out, take(cache, b, {in.q, wide_k, wide_v})));
    EXPECT_TRUE(same_memory(a, b));
  };
  const Tensor<Eigen::bfloat16> k = in.k.cast<Eigen::bfloat16>(), v = in.v.cast<Eigen::bfloat16>();
  expect(k, v, Tensor<float>(k.cast<float>()), Tensor<float>(v.cast<float>()));
  const Tensor<Eigen::half> hk = in.k.cast<Eigen::half>(), hv = in.v.cast<Eigen::half>();
  expect(hk, hv, Tensor<float>(hk.cast<float>()), Tensor<float>(hv.cast<float>()));
  Tensor<std::int8_t> ck(1, 2, 5, 8), cv(1, 2, 5, 8);
  Tensor<float, 3> k_scale(1, 2, 5), v_scale(1, 2, 5);
  quantize(in.k, ck, k_scale), quantize(in.v, cv, v_scale);
  Tensor<float> wide_k = ck.cast<float>(), wide_v = cv.cast<float>();
  for (Index g = 0; g < 2; ++g)
    for (Index i = 0; i < 5; ++i)
      for (Index d = 0; d < 8; ++d)
        wide_k(0, g, i, d) *= k_scale(0, g, i), wide_v(0, g, i, d) *= v_scale(0, g, i);
  const Quantized<float, std::int8_t> qk{ck, k_scale, 8}, qv{cv, v_scale, 8};
  expect(qk, qv, wide_k, wide_v);
}

// ---- pages

/// A sequence on a budget of K holds the pages of K tokens a key head after each step, however many
/// rows the step had; where rows attend before a token goes, those of K + 1.
TYPED_TEST(Caches, HoldThePagesOfTheBudgetAndNoMore) {
  using T = TypeParam;
  for (Index page = this->small; page <= KvPool<T>::largest_page; page += this->small)
    for (const Index budget : {page - 1, page, page + 1, 2 * page})
      for (KvOptions o : this->many_options(budget)) {
        const typename TestFixture::Pool pool(8, 8, {.page = page});
        KvCache<T> cache(cache_shape, o, pool);
        SCOPED_TRACE(describe(o) + ", pages of " + std::to_string(page));
        KvSequence<T> s = cache.open();
        const Index most = o.budget ? budget + (o.when == EvictWhen::before_row ? 0 : 1) : 100000;
        std::uint64_t seed = 0;
        for (const Index n : {1, 1, 5, 70, 1, 1, 130, 33, 1, 1, 1}) {
          take(cache, s, rows_for<T>(1, n, ++seed));
          EXPECT_EQ(s.pages(), 2 * pages_of(std::min(s.next(), most), page)) << s.next();
          EXPECT_EQ(pool.pages_held(), s.pages());
          EXPECT_EQ(s.count(), std::min(s.next(), o.budget.value_or(s.next())));
        }
      }
}

/// In whatever pages tokens are, they are the same ones.
TYPED_TEST(Caches, EvictTheSameWithPagesOfAnySize) {
  using T = TypeParam;
  const Inputs<T> in = rows_for<T>(1, 300, 8);
  for (const KvOptions& o : this->many_options(50)) {
    SCOPED_TRACE(describe(o));
    Tensor<T> want;
    std::vector<Index> held_there;
    for (Index page = KvPool<T>::largest_page; page > 0; page -= this->small) {
      KvCache<T> cache(cache_shape, o, typename TestFixture::Pool(8, 8, {.page = page}));
      KvSequence<T> s = cache.open();
      const Tensor<T> out = take(cache, s, in);
      if (page == KvPool<T>::largest_page) want = out, held_there = held_positions(s);
      EXPECT_TRUE(close(out, want, 10 * tolerance<T>)) << "pages of " << page;
      EXPECT_EQ(held_positions(s), held_there) << "pages of " << page;
    }
  }
}

/// They are the oracle's.
TYPED_TEST(Caches, MatchTheOracleWithPagesOfAnySize) {
  using T = TypeParam;
  const KvOptions o{.budget = 40};
  const Decided<T> want = decided<T>(tokens(150, 8, 4, 2), o, 5);
  for (Index page = this->small; page <= KvPool<T>::largest_page; page += this->small)
    for (const Index at_once : {1, 7, 150}) {
      KvCache<T> cache(cache_shape, o, typename TestFixture::Pool(8, 8, {.page = page}));
      KvSequence<T> s = cache.open();
      Buffered<T> got = answers_to(want.in);
      for (Index i = 0; i < 150; i += at_once)
        step_by(
            [&](const Inputs<T>& part, Tensor<T>& out, const KvStep<T>& options) {
              KvSequence<T>* const one[] = {&s};
              return standard_step(cache, one, part, out, options);
            },
            want.in, i, std::min<Index>(i + at_once, 150), got, Executor{});
      expect_pruned(got, want.want);
    }
}

/// Two layers share a pool and scratch, and answer as if they had their own.
TYPED_TEST(Caches, ShareAPoolAndScratch) {
  using T = TypeParam;
  const typename TestFixture::Pool pool(8, 8, {.page = this->small});
  const KvOptions options[] = {{.budget = 50}, {.budget = 9, .evict = heavy_hitters}};
  const KvShape shapes[] = {cache_shape, {1, 3, 1, 8, 8}};
  Workspace workspace;
  std::vector<KvCache<T>> shared, own;
  for (std::size_t i = 0; i < 2; ++i)
    shared.emplace_back(shapes[i], options[i], pool), own.emplace_back(shapes[i], options[i]);
  std::vector<KvSequence<T>> a, b;
  for (std::size_t i = 0; i < 2; ++i) a.push_back(shared[i].open()), b.push_back(own[i].open());
  for (std::uint64_t round = 0; round < 10; ++round)
    for (std::size_t i = 0; i < 2; ++i) {
      const Inputs<T> in = rows_for<T>(1, Index(1 + round * round), round, shapes[i]);
      const Tensor<T> got = take(shared[i], a[i], in, {.workspace = &workspace}),
                      want = take(own[i], b[i], in);
      EXPECT_TRUE(close(got, want, 10 * tolerance<T>));
      EXPECT_EQ(held_positions(a[i]), held_positions(b[i]));
    }
  EXPECT_EQ(shared[0].scratch_bytes() + shared[1].scratch_bytes(), 0u);
  EXPECT_GT(workspace.bytes(), 0u);
  EXPECT_EQ(pool.pages_held(), 2 * pages_of(50, this->small) + 1);
  KvCache<T> copy = shared[0];
  EXPECT_NO_THROW(take(copy, a[0], rows_for<T>(1, 1, 1)));
}

/// A sequence with holes behind its budget moves its tokens together in the next step, whichever
/// sequences share its pages.
TYPED_TEST(Caches, MoveTokensOutOfPagesThatForksShare) {
  using T = TypeParam;
  const typename TestFixture::Pool pool(8, 8, {.page = this->small});
  KvCache<T> whole(cache_shape, {.chunk = 1}, pool);
  const Index page = this->small, budget = 6 * page;
  KvSequence<T> s = filled(whole, 20 * page, 1);
  for (Index p = 0; p < 20; ++p)  // a few tokens in each page
    s.drop(p * page + 3, p * page + page - 1);
  ASSERT_LE(s.count(), budget);
  KvCache<T> bounded(cache_shape, {.budget = budget, .chunk = 1}, pool);
  s = bounded.open(s);
  const KvSequence<T> fork = s;
  KvSequence<T> alone = bounded.open(fork);
  const auto before = held(fork);
  take(bounded, s, rows_for<T>(1, 1, 2));
  EXPECT_EQ(s.pages(), 2 * pages_of(budget, page));
  EXPECT_EQ(held(fork), before);
  EXPECT_EQ(s.count(), Index(before.size()) + 1);
  const Inputs<T> in = rows_for<T>(1, 1, 2), more = rows_for<T>(1, 1, 3);
  take(bounded, alone, in);
  EXPECT_TRUE(close(take(bounded, s, more), take(bounded, alone, more)));
}

// ---- a pool that runs dry

/// Nothing has changed, and the step succeeds once there is room.
TYPED_TEST(Caches, ThrowBeforeAnythingChangesWhenThePoolIsDry) {
  using T = TypeParam;
  const Index page = this->small;
  const typename TestFixture::Pool any(8, 8, {.page = page});
  const std::size_t bytes =
      heed::detail::PagePool::slab_bytes(14, any.page_bytes(), any.layout().overrun);
  for (const KvOptions& o : this->many_options(10 * page))
    for (const bool forked : {false, true}) {
      SCOPED_TRACE(describe(o) + (forked ? ", forked" : ""));
      const typename TestFixture::Pool pool(8, 8, {.page = page, .bytes = bytes});
      ASSERT_EQ(pool.most_pages(), 14);
      KvCache<T> cache(cache_shape, o, pool);
      // Of 14 pages 12 are held. The first sequence has room for its row, the third needs two more
      // pages for its first new row, and two for its second; a copy of a fork needs two.
      std::vector<KvSequence<T>> all(3), forks;
      for (auto& s : all) s = filled(cache, page - 1, 1);
      all[2] = filled(cache, page, 2);
      KvSequence<T> other = filled(cache, 3 * page, 3);
      if (forked) forks = all;
      ASSERT_EQ(pool.pages_held(), 12);
      std::vector<std::vector<std::byte>> before;
      for (const auto& s : all) before.push_back(memory_of(s));
      const std::vector<std::int64_t> counts{1, 0, forked ? 1 : page + 1};
      const Inputs<T> in = rows_for<T>(3, counts[2], 4);
      Tensor<T> out = this->answers(3, counts[2]);
      const auto step = [&] {
        standard_step(cache, this->pointers(all), in, out, {.tokens = this->view(counts)});
      };
      const std::string said = message_of<OutOfPages>(step);
      EXPECT_EQ(said.rfind("the pool has 14 pages, 12 are held, and ", 0), 0u) << said;
      EXPECT_EQ(pool.pages_held(), 12);
      for (std::size_t b = 0; b < 3; ++b) EXPECT_EQ(memory_of(all[b]), before[b]) << b;
      EXPECT_TRUE(std::isnan(out(0, 0, 0, 0)));
      other.close();
      EXPECT_NO_THROW(step());
      EXPECT_FALSE(std::isnan(out(2, 3, counts[2] - 1, 7)));
      EXPECT_EQ(all[2].next(), page + counts[2]);
      for (std::size_t b = 0; b < forks.size(); ++b) EXPECT_EQ(memory_of(forks[b]), before[b]);
    }
}

TYPED_TEST(Caches, ReserveTheSequencesTheyAreToldOf) {
  using T = TypeParam;
  const typename TestFixture::Pool pool(8, 8, {.page = this->small});
  KvCache<T> cache(cache_shape, {.budget = 50}, pool), whole(cache_shape, {}, pool);
  whole.reserve(10);
  EXPECT_EQ(pool.bytes_reserved(), 0u);
  cache.reserve(4);
  const std::size_t bytes = pool.bytes_reserved();
  std::vector<KvSequence<T>> all;
  for (std::uint64_t b = 0; b < 4; ++b) all.push_back(filled(cache, 200, b));
  EXPECT_EQ(pool.bytes_reserved(), bytes);
}

// ---- budgets and other caches

/// A prompt without a budget, cut afterwards: the largest F go, the first and the newest stay.
TYPED_TEST(Caches, CutASequenceToItsNewBudget) {
  using T = TypeParam;
  const typename TestFixture::Pool pool(8, 8, {.page = this->small});
  KvCache<T> cache(cache_shape, {.protect = {0, 3}, .recent = 4}, pool);
  KvSequence<T> s = filled(cache, 5 * this->small, 1);
  const Index next = s.next(), budget = this->small;
  const KvSequence<T> fork = s;
  auto all = held(s);
  cache.set_budget(s, next);
  EXPECT_EQ(held(s), all);
  cache.set_budget(s, budget);
  EXPECT_EQ(s.budget(), budget);
  EXPECT_EQ(s.pages(), 2);
  EXPECT_EQ(pool.pages_held(), 2 * 5 + 2);
  EXPECT_EQ(held(fork), all);
  auto kept = held(s);
  ASSERT_EQ(Index(kept.size()), budget);
  const auto stays = [&](Index p) { return p == 0 || p == 3 || p >= next - 4; };
  double most_kept = 0, least_gone = 1e300;
  std::size_t j = 0;
  for (const auto& [p, f] : all) {
    const bool there = j < kept.size() && kept[j].first == p;
    if (there) {
      EXPECT_EQ(kept[j++].second, f);
    }
    EXPECT_TRUE(there || !stays(p)) << p;
    if (there && !stays(p)) most_kept = std::max(most_kept, f);
    if (!there) least_gone = std::min(least_gone, f);
  }
  EXPECT_LE(most_kept, least_gone);
  // It goes on within its budget, and beyond it when that is raised.
  take(cache, s, rows_for<T>(1, 20, 2));
  EXPECT_EQ(s.count(), budget);
  cache.set_budget(s, budget + 5);
  take(cache, s, rows_for<T>(1, 20, 3));
  EXPECT_EQ(s.count(), budget + 5);
  cache.set_budget(s, std::nullopt);
  take(cache, s, rows_for<T>(1, 20, 4));
  EXPECT_EQ(s.count(), budget + 25);
  EXPECT_EQ(cache.open().budget(), std::nullopt);
}

/// Half of the sequence's own budget is recent, not half of the cache's.
TYPED_TEST(Caches, KeepRecentTokensByTheBudgetOfTheSequence) {
  using T = TypeParam;
  KvCache<T> cache(cache_shape, {.budget = 100, .evict = heavy_hitters}),
      narrow(cache_shape, {.budget = 16, .evict = heavy_hitters}),
      whole(cache_shape, {.evict = heavy_hitters});
  for (KvCache<T>* const any : {&cache, &whole}) {
    KvSequence<T> s = any->open(), want = narrow.open();
    any->set_budget(s, 16);
    const Inputs<T> in = rows_for<T>(1, 80, 6);
    take(*any, s, in), take(narrow, want, in);
    EXPECT_EQ(held_positions(s), held_positions(want));
    KvSequence<T> cut = filled(*any, 90, 7);
    any->set_budget(cut, 16);
    EXPECT_EQ(cut.count(), 16);
    const std::vector<Index> left = held_positions(cut);
    for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(left[left.size() - 1 - i], Index(89 - i));
  }
}

/// What is protected is for the cache to say that a sequence is in.
TYPED_TEST(Caches, ProtectTheirOwnPositions) {
  using T = TypeParam;
  KvCache<T> from(cache_shape, {.budget = 20, .evict = oldest, .protect = {2}}),
      to(cache_shape, {.budget = 20, .evict = oldest, .protect = {5, 11}}, from.pool()),
      far(cache_shape, {.budget = 20, .evict = oldest, .protect = {5, 11}});
  const KvSequence<T> s = filled(from, 20, 1);
  const Inputs<T> in = rows_for<T>(1, 40, 2);
  for (KvCache<T>* const any : {&to, &far}) {
    KvSequence<T> moved = any->open(s);
    take(*any, moved, in);
    const std::vector<Index> left = held_positions(moved);
    EXPECT_EQ(std::vector<Index>(left.begin(), left.begin() + 3), (std::vector<Index>{5, 11, 42}));
  }
}

/// Pages are shared with a cache of one pool, copied to one of another, whatever its pages.
TYPED_TEST(Caches, OpenTheSequencesOfOthers) {
  using T = TypeParam;
  const typename TestFixture::Pool pool(8, 8, {.page = this->small});
  KvCache<T> from(cache_shape, {.budget = 3 * this->small}, pool);
  const KvSequence<T> s = filled(from, 200, 1);
  const Inputs<T> in = rows_for<T>(1, 40, 2);
  for (const Index budget : {Index(3 * this->small), Index(3 * this->small + 1), Index(200)})
    for (const Index page : {Index(0), this->small, KvPool<T>::largest_page}) {
      const auto memory = page == 0 ? pool : typename TestFixture::Pool(8, 8, {.page = page});
      const KvOptions o{.budget = budget};
      KvCache<T> to(cache_shape, o, memory);
      const Index held_before = memory.pages_held();
      KvSequence<T> moved = to.open(s);
      EXPECT_EQ(memory.pages_held() - held_before,
                page == 0 ? 0 : 2 * pages_of(3 * this->small, page));
      EXPECT_EQ(moved.budget(), budget);
      EXPECT_EQ(held(moved), held(s));
      EXPECT_EQ(moved.next(), 200);
      // As in a cache that had this budget all the time.
      KvSequence<T> raised = s;
      from.set_budget(raised, budget);
      take(to, moved, in), take(from, raised, in);
      EXPECT_EQ(held_positions(moved), held_positions(raised));
    }
  EXPECT_EQ(pool.pages_held(), s.pages());
  const KvSequence<T> fork = from.open(s);
  EXPECT_TRUE(same_memory(fork, s));
}

// ---- NaN

TYPED_TEST(Caches, KeepNaNWithinItsSequence) {
  using T = TypeParam;
  constexpr T nan = std::numeric_limits<T>::quiet_NaN();
  const typename TestFixture::Pool pool(8, 8, {.page = this->small});
  for (const KvOptions& o : this->many_options(12)) {
    SCOPED_TRACE(describe(o));
    KvCache<T> cache(cache_shape, o, pool);
    const Inputs<T> good = rows_for<T>(3, 25, 1);
    Inputs<T> bad = good;
    for (Tensor<T>* x : {&bad.q, &bad.k, &bad.v}) x->chip(1, 0).chip(7, 1).setConstant(nan);
    std::vector<KvSequence<T>> a(3), b(3);
    for (std::size_t i = 0; i < 3; ++i) a[i] = b[i] = filled(cache, 5, i);
    Tensor<T> got = this->answers(3, 25), want = got;
    standard_step(cache, this->pointers(a), bad, got);
    standard_step(cache, this->pointers(b), good, want);
    EXPECT_TRUE(std::isnan(got(1, 0, 7, 0)));
    for (const Index i : {0, 2}) {
      EXPECT_TRUE(same_bits(batch_of(got, i, 25), batch_of(want, i, 25)));
      EXPECT_TRUE(same_memory(a[std::size_t(i)], b[std::size_t(i)]));
    }
    // Pages that held NaN are given to others.
    a.clear(), b.clear();
    KvSequence<T> next = filled(cache, 25, 9);
    const Tensor<T> out = take(cache, next, rows_for<T>(1, 25, 10));
    EXPECT_TRUE(finite(out));
  }
}

/// The heads of another key head do not see it, unless it is in the head that selects.
TYPED_TEST(Caches, KeepNaNWithinItsHead) {
  using T = TypeParam;
  constexpr T nan = std::numeric_limits<T>::quiet_NaN();
  for (const bool selects : {true, false}) {
    KvOptions o;
    if (!selects) o.select.reset();
    KvCache<T> cache(cache_shape, o);
    const Inputs<T> good = rows_for<T>(1, 40, 1);
    Inputs<T> bad = good;
    for (Tensor<T>* x : {&bad.k, &bad.v}) x->chip(1, 1).chip(7, 1).setConstant(nan);
    KvSequence<T> a = cache.open(), b = cache.open();
    const Tensor<T> got = take(cache, a, bad), want = take(cache, b, good);
    for (Index i = 0; i < 40; ++i)
      for (Index d = 0; d < 8; ++d) {
        for (const Index h : {0, 1}) EXPECT_EQ(got(0, h, i, d), want(0, h, i, d));
        for (const Index h : {2, 3}) EXPECT_EQ(std::isnan(got(0, h, i, d)), i >= 7) << i;
      }
    EXPECT_EQ(held(a), held(b));
  }
}

/// A value that is NaN is seen by no row after its token has gone, wherever it was moved to.
TYPED_TEST(Caches, KeepNaNWithinTheRowsThatSeeIt) {
  using T = TypeParam;
  const Index page = this->small, budget = 2 * page;
  const KvOptions o{.budget = budget, .evict = oldest, .protect = {}, .select = {}};
  KvCache<T> cache(cache_shape, o, typename TestFixture::Pool(8, 8, {.page = page}));
  for (Index bad = 3 * page; bad < 4 * page; bad += 5) {
    Inputs<T> in = rows_for<T>(1, 8 * page, 1);
    in.v.chip(bad, 2).setConstant(std::numeric_limits<T>::quiet_NaN());
    KvSequence<T> s = cache.open();
    const Inputs<T> prompt{slice(in.q, 0, 4 * page), slice(in.k, 0, 4 * page),
                           slice(in.v, 0, 4 * page)},
        rest{slice(in.q, 4 * page, 8 * page), slice(in.k, 4 * page, 8 * page),
             slice(in.v, 4 * page, 8 * page)};
    take(cache, s, prompt);
    EXPECT_EQ(s.pages(), 4);
    KvCache<T> wide(cache_shape, o);
    KvSequence<T> moved = wide.open(s);
    for (const Tensor<T>& out : {take(cache, s, rest), take(wide, moved, rest)})
      for (Index i = 0; i < 4 * page; ++i)
        EXPECT_EQ(std::isnan(out(0, 0, i, 0)), 4 * page + i < bad + budget) << bad << ", " << i;
  }
}

// ---- refusals

template <class T>
class RefusalsOfCaches : public Caches<T> {
 protected:
  /// What a step of these sequences says; none may have changed.
  template <class Error, class In, class Out>
  std::string refusal(const std::vector<KvSequence<T>*>& sequences, const In& in, Out& out,
                      const KvStep<T>& options = {}) {
    std::vector<KvSequence<T>> before;
    for (const KvSequence<T>* s : sequences)
      if (s && s->is_open()) before.push_back(*s);
    const Out unwritten = out;
    const std::string said =
        message_of<Error>([&] { standard_step(cache, sequences, in, out, options); });
    std::size_t i = 0;
    for (const KvSequence<T>* s : sequences)
      if (s && s->is_open()) {
        EXPECT_TRUE(same_memory(*s, before[i++]));
      }
    EXPECT_TRUE(same_bits(out, unwritten));
    return said;
  }

  KvCache<T> cache{cache_shape, {.budget = 9}}, other{cache_shape, {.budget = 9}, cache.pool()};
  KvSequence<T> a = filled(cache, 12, 1), b = filled(cache, 3, 2), foreign = filled(other, 3, 3),
                closed;
};
TYPED_TEST_SUITE(RefusalsOfCaches, Scalars, ScalarName);

TYPED_TEST(RefusalsOfCaches, NameTheSequence) {
  using T = TypeParam;
  const Inputs<T> in = rows_for<T>(2, 2, 1);
  Tensor<T> out = this->answers(2, 2);
  const auto said = [&](std::vector<KvSequence<T>*> s) {
    return this->template refusal<ValueError>(s, in, out);
  };
  EXPECT_EQ(said({&this->a, nullptr}), "sequence 1 of the step is null");
  EXPECT_EQ(said({&this->closed, &this->a}), "the sequence is closed");
  EXPECT_EQ(said({&this->a, &this->a}), "a step names one sequence twice");
  const std::string of_another =
      "the sequence is of another cache; open(sequence) continues it in this one";
  EXPECT_EQ(said({&this->a, &this->foreign}), of_another);
  EXPECT_EQ(message_of<ValueError>([&] { this->cache.set_budget(this->foreign, 4); }), of_another);
}

TYPED_TEST(RefusalsOfCaches, NameTheShapes) {
  using T = TypeParam;
  const std::vector<KvSequence<T>*> two{&this->a, &this->b};
  Tensor<T> out = this->answers(2, 2);
  const auto says = [&](const Inputs<T>& in, const std::string& words) {
    const std::string said = this->template refusal<ShapeError>(two, in, out);
    EXPECT_NE(said.find(words), std::string::npos) << said;
  };
  says(rows_for<T>(3, 2, 1), "[3, 4, 2, 8], should be [2, 4, 2, 8]");
  says(rows_for<T>(1, 2, 1), "[1, 4, 2, 8], should be [2, 4, 2, 8]");
  says(rows_for<T>(2, 2, 1, {1, 8, 2, 8, 8}), "[2, 8, 2, 8], should be [2, 4, 2, 8]");
  says(rows_for<T>(2, 2, 1, {1, 4, 4, 8, 8}), "[2, 4, 2, 8], should be [2, 2, 2, 8]");
  says(rows_for<T>(2, 2, 1, {1, 4, 2, 7, 8}), "[2, 4, 2, 7], should be [2, 4, 2, 8]");
  says(rows_for<T>(2, 2, 1, {1, 4, 2, 8, 9}), "[2, 2, 2, 9], should be [2, 2, 2, 8]");
  const Inputs<T> in = rows_for<T>(2, 2, 1);
  Tensor<T> narrow(2, 4, 2, 7), short_of(2, 4, 1, 8);
  narrow.setZero(), short_of.setZero();
  EXPECT_NE(this->template refusal<ShapeError>(two, in, narrow).find("[2, 4, 2, 8]"),
            std::string::npos);
  EXPECT_NE(this->template refusal<ShapeError>(two, in, short_of).find("[2, 4, 2, 8]"),
            std::string::npos);
  Tensor<T, 3> lse(2, 4, 3);
  EXPECT_NE(this->template refusal<ShapeError>(two, in, out, {.lse = lse}).find("[2, 4, 3]"),
            std::string::npos);
  Tensor<std::int64_t, 2> evict_row(2, 4);  // positions to 13
  EXPECT_NE(this->template refusal<ShapeError>(two, in, out, {.evict_row = evict_row}).find("4"),
            std::string::npos);
}

TYPED_TEST(RefusalsOfCaches, NameTheCounts) {
  using T = TypeParam;
  const std::vector<KvSequence<T>*> two{&this->a, &this->b};
  const Inputs<T> in = rows_for<T>(2, 2, 1);
  Tensor<T> out = this->answers(2, 2);
  const std::vector<std::int64_t> many{1, 3}, negative{-1, 2}, three{1, 1, 1}, good{2, 1};
  const auto says = [&](auto error, const std::vector<std::int64_t>& counts,
                        const std::string& words) {
    const std::string said =
        this->template refusal<decltype(error)>(two, in, out, {.tokens = this->view(counts)});
    EXPECT_NE(said.find(words), std::string::npos) << said;
  };
  says(ValueError(""), many, "tokens[1] is 3");
  says(ValueError(""), negative, "tokens[0] is -1");
  says(ShapeError(""), three, "[3], should be [2]");
  Packed<T> rows = packed(in, good);
  Tensor<T, 3> flat(3, 4, 8);
  flat.setZero();
  EXPECT_EQ(this->template refusal<ValueError>(two, rows, flat, {.tokens = this->view(good)}),
            "step: packed rows have starts, and no tokens beside them");
  const auto starts = [&](std::vector<std::int64_t> s) {
    rows.starts = std::move(s);
    return this->template refusal<ValueError>(two, rows, flat);
  };
  EXPECT_EQ(starts({0, 3, 2}), "starts[1] is 3, starts[2] is 2: they begin with 0 and never fall");
  EXPECT_EQ(starts({1, 2, 3}), "starts[0] is 1, starts[1] is 2: they begin with 0 and never fall");
  EXPECT_EQ(starts({-1, 2, 3}),
            "starts[0] is -1, starts[1] is 2: they begin with 0 and never fall");
  EXPECT_EQ(starts({0, 1, 2}), "starts[2] is 2, there are 3 packed rows");
  EXPECT_EQ(starts({0, 1, 4}), "starts[2] is 4, there are 3 packed rows");
  rows.starts = {0, 3};
  EXPECT_NE(this->template refusal<ShapeError>(two, rows, flat).find("[2], should be [3]"),
            std::string::npos);
  rows = packed(in, good);
  Tensor<T, 3> narrow(3, 4, 7);
  narrow.setZero();
  EXPECT_NE(this->template refusal<ShapeError>(two, rows, narrow).find("7"), std::string::npos);
}

TYPED_TEST(RefusalsOfCaches, NameThePoolAndTheBudget) {
  using T = TypeParam;
  const auto said = [](const KvShape& s, const KvPool<T>& pool) {
    return message_of<ShapeError>([&] { KvCache<T>(s, {}, pool); });
  };
  EXPECT_EQ(said({1, 4, 2, 8, 8}, KvPool<T>(7, 8)),
            "the pool is for keys of 7 and values of 8 numbers, the cache for 8 and 8");
  EXPECT_EQ(said({1, 4, 2, 8, 8}, KvPool<T>(8, 9)),
            "the pool is for keys of 8 and values of 9 numbers, the cache for 8 and 8");
  EXPECT_NE(said({1, 4, 3, 8, 8}, KvPool<T>(8, 8)).find("4 query heads are no multiple of 3"),
            std::string::npos);
  const auto budget = [&](std::optional<Index> to) {
    const KvSequence<T> before = this->a;
    const std::string text = message_of<ValueError>([&] { this->cache.set_budget(this->a, to); });
    EXPECT_TRUE(same_memory(this->a, before));
    return text;
  };
  EXPECT_EQ(budget(1),
            "budget is 1, must be at least 2: KvOptions::protect keeps 1, recent keeps 1");
  EXPECT_EQ(budget(-5),
            "budget is -5, must be at least 2: KvOptions::protect keeps 1, recent keeps 1");
  EXPECT_NO_THROW(this->cache.set_budget(this->a, 2));
  KvCache<T> smaller(cache_shape, {.budget = 5}), plain(cache_shape, {.budget = 9, .select = {}});
  const KvSequence<T> full = filled(this->cache, 12, 1);
  EXPECT_EQ(message_of<ValueError>([&] { smaller.open(full); }),
            "the sequence holds 9 tokens, the budget of the buffer it should go to is 5");
  EXPECT_EQ(
      message_of<ValueError>([&] { plain.open(full); }),
      "the sequence was made with select 1, the buffer it should go to has 0: their F differ");
  KvCache<T> wide({1, 4, 2, 9, 8}, {.budget = 9});
  EXPECT_EQ(message_of<ShapeError>([&] { wide.open(full); }),
            "the sequence has 4 query heads, 2 key heads, keys of 8 and values of 8 numbers, the "
            "buffer it should go to 4, 2, 9 and 8");
}

}  // namespace
}  // namespace heed::test
