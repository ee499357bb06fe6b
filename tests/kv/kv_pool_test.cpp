// SPDX-License-Identifier: MIT
// The memory of caches: how large its pages are, how many there are, and which sequences hold them.

#include "heed/kv/kv_pool.hpp"

#include "support/caches.hpp"
#include "support/sanitizers.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <new>
#include <string>
#include <thread>
#include <vector>

namespace heed::test {
namespace {

template <class T>
class Pools : public testing::Test {
 protected:
  static constexpr Index small = small_page<T>, large = KvPool<T>::largest_page;
};
TYPED_TEST_SUITE(Pools, Scalars, ScalarName);

TYPED_TEST(Pools, AllocateNothingBeforeTheyMust) {
  using T = TypeParam;
  const KvPool<T> pool(8, 5);
  EXPECT_EQ(pool.dim(), 8);
  EXPECT_EQ(pool.value_dim(), 5);
  EXPECT_EQ(pool.page(), this->large);
  EXPECT_EQ(pool.pages_held(), 0);
  EXPECT_EQ(pool.bytes_held(), 0u);
  EXPECT_EQ(pool.bytes_reserved(), 0u);
  EXPECT_FALSE(pool.most_pages());
  EXPECT_GE(pool.page_bytes(), std::size_t(this->large) * (8 + 5) * sizeof(T));
}

TYPED_TEST(Pools, OfLimitedBytesAllocateThemAtOnceAndNoMore) {
  using T = TypeParam;
  const KvPool<T> any(8, 8, {.page = this->small});
  for (const std::size_t bytes :
       {any.page_bytes() + 4096, 10 * any.page_bytes(), 100 * any.page_bytes() + 17}) {
    const KvPool<T> pool(8, 8, {.page = this->small, .bytes = bytes});
    EXPECT_LE(pool.bytes_reserved(), bytes);
    ASSERT_TRUE(pool.most_pages());
    // One page more would not have fit.
    EXPECT_GT(heed::detail::PagePool::slab_bytes(*pool.most_pages() + 1, pool.page_bytes(),
                                                 pool.layout().overrun),
              bytes);
    KvPool<T> same = pool;
    EXPECT_NO_THROW(same.reserve(*pool.most_pages()));
    EXPECT_LE(pool.bytes_reserved(), bytes);
    const std::string said = message_of<OutOfPages>([&] { same.reserve(*pool.most_pages() + 1); });
    EXPECT_EQ(said, "the pool has " + std::to_string(*pool.most_pages()) +
                        " pages, 0 are held, and " + std::to_string(*pool.most_pages() + 1) +
                        " more are needed");
  }
}

/// Nor does it count them one by one.
TYPED_TEST(Pools, OfMoreBytesThanThereAreAreRefused) {
  using T = TypeParam;
  if (sanitized) GTEST_SKIP() << "a sanitizer ends the program where memory is exhausted";
  EXPECT_THROW(KvPool<T>(8, 8, {.bytes = std::numeric_limits<std::size_t>::max() / 4}),
               std::bad_alloc);
}

/// A number of pages may be named in place of bytes, and the exception says how many there were.
TYPED_TEST(Pools, OfLimitedPagesHaveJustThese) {
  using T = TypeParam;
  KvPool<T> pool(8, 8, {.page = this->small, .pages = 6});
  EXPECT_EQ(pool.most_pages(), 6);
  KvCache<T> cache(cache_shape, {}, pool);
  KvSequence<T> sequence = filled(cache, 3 * this->small, 1);
  EXPECT_EQ(pool.pages_held(), 6);
  try {
    take(cache, sequence, rows_for<T>(1, 1, 2));
    FAIL() << "the pool is full";
  } catch (const OutOfPages& e) {
    EXPECT_EQ(e.needed, 2);
    EXPECT_EQ(e.free, 0);
  }
  EXPECT_EQ(message_of<ValueError>([] { KvPool<T>(8, 8, {.pages = 0}); }),
            "KvPool: 0 pages, must be at least 1");
}

TYPED_TEST(Pools, AreTheSameWhenCopied) {
  using T = TypeParam;
  KvPool<T> pool(8, 8), copy = pool, other(8, 8);
  EXPECT_TRUE(pool == copy);
  EXPECT_FALSE(pool == other);
  copy.reserve(3);
  EXPECT_EQ(pool.bytes_reserved(), copy.bytes_reserved());
  EXPECT_GT(pool.bytes_reserved(), 3 * pool.page_bytes());
  EXPECT_EQ(other.bytes_reserved(), 0u);
  EXPECT_EQ(pool.pages_held(), 0);
}

TYPED_TEST(Pools, GrowByAQuarterSoThatTheyGrowSeldom) {
  using T = TypeParam;
  KvPool<T> pool(1, 1, {.page = this->small});
  std::size_t before = 0;
  int grown = 0;
  for (Index pages = 1; pages <= 1000; ++pages) {
    pool.reserve(pages);
    grown += pool.bytes_reserved() != before;
    before = pool.bytes_reserved();
    EXPECT_GE(before, std::size_t(pages) * pool.page_bytes());
  }
  EXPECT_LT(grown, 50);
  EXPECT_LT(double(before), 1.3 * 1000 * double(pool.page_bytes() + 128) + 4096);
}

/// Freed pages are used again before others are allocated.
TYPED_TEST(Pools, UsePagesAgain) {
  using T = TypeParam;
  const KvPool<T> pool(8, 8, {.page = this->small});
  KvCache<T> cache(cache_shape, {}, pool);
  std::size_t reserved = 0;
  for (int round = 0; round < 5; ++round) {
    const KvSequence<T> a = filled(cache, 100, 1), b = filled(cache, 30, 2);
    const Index each = pages_of(100, pool.page()) + pages_of(30, pool.page());
    EXPECT_EQ(pool.pages_held(), 2 * each);
    EXPECT_EQ(pool.bytes_held(), std::size_t(2 * each) * pool.page_bytes());
    if (round == 0) reserved = pool.bytes_reserved();
    EXPECT_EQ(pool.bytes_reserved(), reserved);
  }
  EXPECT_EQ(pool.pages_held(), 0);
}

/// A page lives as long as a sequence, whatever else is gone.
TYPED_TEST(Pools, OutliveTheirNames) {
  using T = TypeParam;
  KvSequence<T> kept;
  {
    KvCache<T> cache(cache_shape, {}, KvPool<T>(8, 8));
    kept = filled(cache, 20, 1);
  }
  EXPECT_EQ(kept.pool().pages_held(), 2);
  EXPECT_EQ(kept.count(), 20);
  KvCache<T> other(cache_shape, {});
  const KvSequence<T> moved = other.open(kept);
  EXPECT_EQ(held(moved), held(kept));
}

/// Threads with a cache each, over one pool, step forks of one sequence.
TYPED_TEST(Pools, ServeThreads) {
  using T = TypeParam;
  const KvPool<T> pool(8, 8, {.page = this->small});
  KvCache<T> cache(cache_shape, {.budget = 40}, pool);
  const KvSequence<T> prompt = filled(cache, 60, 1);
  const Inputs<T> in = rows_for<T>(1, 3, 2);
  KvSequence<T> alone = prompt;
  for (int i = 0; i < 20; ++i) take(cache, alone, in);
  std::vector<KvSequence<T>> forks(4, prompt);
  std::vector<std::thread> threads;
  for (KvSequence<T>& fork : forks)
    threads.emplace_back([&fork, &in, own = cache]() mutable {
      for (int i = 0; i < 20; ++i) {
        const KvSequence<T> kept = fork;
        take(own, fork, in);
      }
    });
  for (std::thread& t : threads) t.join();
  for (const KvSequence<T>& fork : forks) EXPECT_TRUE(same_memory(fork, alone));
  EXPECT_EQ(pool.pages_held(), 2 * pages_of(40, pool.page()) * 6);
}

// ---- refusals

TYPED_TEST(Pools, RefuseOtherPagesThanMultiplesOfAPanel) {
  using T = TypeParam;
  constexpr Index panel = KvPool<T>::slot_multiple;
  for (Index page = panel; page <= this->large; page += panel)
    EXPECT_EQ(KvPool<T>(8, 8, {.page = page}).page(), page);
  for (const Index page :
       {Index(-1), Index(0), Index(1), panel - 1, panel + 1, this->large - 1, this->large + panel})
    EXPECT_EQ(message_of<ValueError>([&] { KvPool<T>(8, 8, {.page = page}); }),
              "KvPool: a page of " + std::to_string(page) + " slots, must be a multiple of " +
                  std::to_string(panel) + " and at most " + std::to_string(this->large));
}

TYPED_TEST(Pools, RefuseSizesThatAreNone) {
  using T = TypeParam;
  EXPECT_EQ(message_of<ValueError>([] { KvPool<T>(0, 8); }),
            "KvPool: keys of 0 and values of 8 numbers, both must be at least 1");
  EXPECT_EQ(message_of<ValueError>([] { KvPool<T>(8, -1); }),
            "KvPool: keys of 8 and values of -1 numbers, both must be at least 1");
  const Index most = std::numeric_limits<Index>::max();
  for (const auto& [dim, value_dim] : {std::array<Index, 2>{most, 1}, {1, most}, {most, most}}) {
    const std::string said =
        message_of<ValueError>([&, d = dim, v = value_dim] { KvPool<T>(d, v); });
    EXPECT_NE(said.find("which no memory holds"), std::string::npos) << said;
  }
}

TYPED_TEST(Pools, RefuseBytesThatHoldNoPage) {
  using T = TypeParam;
  const KvPool<T> any(8, 8, {.page = this->small});
  const std::size_t least =
      heed::detail::PagePool::slab_bytes(1, any.page_bytes(), any.layout().overrun);
  EXPECT_EQ(*KvPool<T>(8, 8, {.page = this->small, .bytes = least}).most_pages(), 1);
  for (const std::size_t bytes : {std::size_t(0), std::size_t(1), least - 1})
    EXPECT_EQ(
        message_of<ValueError>([&] { KvPool<T>(8, 8, {.page = this->small, .bytes = bytes}); }),
        "KvPool: " + std::to_string(bytes) + " bytes hold no page, which takes " +
            std::to_string(least));
}

}  // namespace
}  // namespace heed::test
