// SPDX-License-Identifier: MIT
// Sequences in files: what is written, what is read back, and what is refused.

#include "heed/kv/kv_file.hpp"

#include "heed/kv/least_attended_last.hpp"
#include "support/buffers.hpp"

#include <Eigen/Core>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace heed::test {
namespace {

/// The types of a cache, and the checksum at the end of its file in PinTheFormat.
template <class Number, class Unit, std::uint64_t Sum>
struct Kept {
  using T = Number;
  using S = Unit;
  using Cache = KvCache<T, S>;
  static constexpr std::uint64_t sum = Sum;
};
using StoredTypes = testing::Types<
    Kept<float, float, 0x58597ab5001bed76>, Kept<double, double, 0x6ab0b1adf8997e1c>,
    Kept<float, Eigen::bfloat16, 0x795259904ccf456>, Kept<float, Eigen::half, 0xd406a68d14d901dc>,
    Kept<float, std::int8_t, 0x51d2eb51020d45df>, Kept<float, Int4Pair, 0xb71f63d5ea1bbbff>,
    Kept<double, Fp8E4M3, 0xd75ab1536888fbb1>>;

constexpr KvShape file_shape{.heads = 4, .key_heads = 2, .dim = 6, .value_dim = 5};

template <class T>
Inputs<T> inputs_of(const KvShape& s, Index rows, std::uint64_t seed) {
  return inputs<T>({.batch = 1,
                    .heads = s.heads,
                    .key_heads = s.key_heads,
                    .queries = rows,
                    .keys = rows,
                    .dim = s.dim,
                    .value_dim = s.value_dim},
                   seed);
}

/// Tokens [from, to) of the inputs go through a sequence; answers go to their place.
template <class T, class S>
void step(KvCache<T, S>& cache, KvSequence<T, S>& sequence, const Inputs<T>& in, Index from,
          Index to, Buffered<T>& answers) {
  const auto take = [&](const Inputs<T>& part, Tensor<T>& out, const KvStep<T>& options) {
    return cache.step({&sequence}, part.q, part.k, part.v, standard, out, options);
  };
  step_by(take, in, from, to, answers, Executor{});
}
template <class T, class S>
KvSequence<T, S> filled(KvCache<T, S>& cache, const Inputs<T>& in, Index to) {
  KvSequence<T, S> sequence = cache.open();
  Buffered<T> forgotten = answers_to(in);
  step(cache, sequence, in, 0, to, forgotten);
  return sequence;
}

template <class T, class S>
std::string file_of(const KvSequence<T, S>& sequence) {
  std::ostringstream file;
  save(file, sequence);
  return file.str();
}
template <class T, class S>
KvSequence<T, S> loaded(const std::string& bytes, const KvCache<T, S>& cache) {
  std::istringstream file(bytes);
  return load(file, cache);
}
/// What load() says, having kept no page.
template <class Error = FileError, class T, class S>
std::string refusal(const std::string& bytes, const KvCache<T, S>& cache) {
  const Index held = cache.pool().pages_held();
  const std::string said = message_of<Error>([&] { loaded(bytes, cache); });
  EXPECT_EQ(cache.pool().pages_held(), held);
  return said;
}
testing::AssertionResult says(const std::string& said, const std::string& words) {
  if (said.find(words) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "\"" << said << "\" does not say \"" << words << "\"";
}

/// Position, bits of F, bits of the received weights of the tokens that a key head holds.
template <class T, class S>
std::vector<std::pair<Index, std::string>> state(const KvSequence<T, S>& s, Index key_head) {
  std::vector<std::pair<Index, std::string>> tokens;
  for (const KvToken<T>& token : s.held(key_head)) {
    std::string bits(2 * sizeof(T), '\0');
    std::memcpy(bits.data(), &token.f, sizeof(T));
    std::memcpy(bits.data() + sizeof(T), &token.weight, sizeof(T));
    tokens.emplace_back(token.position, bits);
  }
  return tokens;
}
template <class T, class S>
void expect_same_state(const KvSequence<T, S>& got, const KvSequence<T, S>& want) {
  EXPECT_EQ(got.next(), want.next());
  EXPECT_EQ(got.budget(), want.budget());
  EXPECT_EQ(got.dropped(), want.dropped());
  for (Index g = 0; g < want.shape().key_heads; ++g) EXPECT_EQ(state(got, g), state(want, g)) << g;
}

/// Where tokens are in other slots, sums over them differ by rounding; F is no such sum.
template <class T, class S>
void expect_close_state(const KvSequence<T, S>& got, const KvSequence<T, S>& want) {
  const auto a = got.held(), b = want.held();
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].position, b[i].position);
    EXPECT_EQ(a[i].f, b[i].f);
    EXPECT_NEAR(a[i].weight, b[i].weight, 10 * tolerance<T> * (T(1) + b[i].weight));
  }
}

// ---- a reader and a signer of its own, by the table in kv_file.hpp

constexpr std::size_t sum_at = 192;

std::uint64_t fnv1a(const std::string& bytes) {
  std::uint64_t sum = 0xcbf29ce484222325;
  for (const char byte : bytes) sum = (sum ^ std::uint8_t(byte)) * 0x100000001b3;
  return sum;
}
std::uint64_t unsigned_at(const std::string& bytes, std::size_t at, std::size_t size) {
  std::uint64_t x = 0;
  for (std::size_t i = size; i-- > 0;) x = x << 8 | std::uint8_t(bytes.at(at + i));
  return x;
}
void put(std::string& bytes, std::size_t at, std::size_t size, std::uint64_t x) {
  for (std::size_t i = 0; i < size; ++i) bytes.at(at + i) = char(x >> (8 * i) & 0xff);
}
template <class X>
X number_at(const std::string& bytes, std::size_t& at) {
  using Bits = std::conditional_t<sizeof(X) == 8, std::uint64_t, std::uint32_t>;
  const auto bits = Bits(unsigned_at(bytes, at, sizeof(X)));
  at += sizeof(X);
  X x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
/// Makes both checksums right, as a forger would.
std::string sign(std::string bytes) {
  put(bytes, sum_at, 8, fnv1a(bytes.substr(0, sum_at)));
  put(bytes, bytes.size() - 8, 8, fnv1a(bytes.substr(0, bytes.size() - 8)));
  return bytes;
}
std::string with(std::string bytes, std::size_t at, std::size_t size, std::uint64_t x) {
  put(bytes, at, size, x);
  return sign(bytes);
}

template <class X>
class KvFiles : public testing::Test {
 public:
  using Numbers = KvPool<typename X::T, typename X::S>;
  static Numbers pool(Index panels) {
    return Numbers(file_shape.dim, file_shape.value_dim, {.page = panels * Numbers::slot_multiple});
  }
};
TYPED_TEST_SUITE(KvFiles, StoredTypes);

/// Whatever the rule, the budget and what is protected: in another pool of other pages, the loaded
/// sequence goes on as the one that was saved. A fork of that one is saved, so that pages are
/// shared and slots are out of order.
TYPED_TEST(KvFiles, GoOnAsIfTheyHadNotBeenSaved) {
  using T = typename TypeParam::T;
  using Cache = typename TypeParam::Cache;
  const Inputs<T> in = inputs_of<T>(file_shape, 120, 1);
  for (const EvictionRule& rule : {EvictionRule(most_masked), EvictionRule(heavy_hitters(5)),
                                   EvictionRule(oldest), EvictionRule(least_attended_last)})
    for (const std::optional<Index> budget : {std::optional<Index>(23), std::optional<Index>()})
      for (const bool selects : {true, false})
        for (const bool late : {false, true}) {
          KvOptions o{.budget = budget, .evict = rule};
          if (late) o.when = EvictWhen::after_row, o.protect = {0, 7, 8, 300};
          if (!selects) o.select = std::nullopt;
          if (!rule.uses_weights() && late) o.chunk = 9;
          SCOPED_TRACE(describe(o));
          Cache one(file_shape, o, this->pool(1)), other(file_shape, o, this->pool(2));
          Buffered<T> got = answers_to(in);
          auto first = one.open();
          step(one, first, in, 0, 70, got);
          Buffered<T> want = got;
          auto fork = first;
          step(one, first, in, 70, 90, want);
          step(one, first, in, 90, 120, want);
          auto back = loaded(file_of(fork), other);
          expect_same_state(back, fork);
          EXPECT_EQ(back.pages(), (fork.count() + other.pool().page() - 1) / other.pool().page() *
                                      file_shape.key_heads);
          step(other, back, in, 70, 90, got);
          step(other, back, in, 90, 120, got);
          EXPECT_TRUE(same_bits(got.evict_row, want.evict_row));
          EXPECT_TRUE(close(got.out, want.out));
          EXPECT_TRUE(close(got.lse, want.lse));
          EXPECT_EQ(back.next(), 120);
          expect_close_state(back, first);
        }
}

/// The file does not show in which pages and slots tokens are.
TYPED_TEST(KvFiles, AreTheSameWhateverThePages) {
  using T = typename TypeParam::T;
  using Cache = typename TypeParam::Cache;
  const Inputs<T> in = inputs_of<T>(file_shape, 100, 2);
  const KvOptions o{.budget = 40};
  Cache one(file_shape, o, this->pool(1)), other(file_shape, o, this->pool(3));
  const auto a = filled(one, in, 100), b = filled(other, in, 100);
  const std::string bytes = file_of(a);
  EXPECT_TRUE(bytes == file_of(b));
  EXPECT_TRUE(bytes == file_of(loaded(bytes, other)));
  auto shuffled = a;
  shuffled.drop(60, 80);
  auto packed = loaded(file_of(shuffled), other);
  EXPECT_TRUE(file_of(shuffled) == file_of(packed));
  EXPECT_FALSE(bytes == file_of(packed));
}

/// Each field is where the table says, in files of numbers as they are computed.
template <class T>
class PlainFiles : public testing::Test {};
TYPED_TEST_SUITE(PlainFiles, Scalars, ScalarName);
TYPED_TEST(PlainFiles, AreAsDocumented) {
  using T = TypeParam;
  const Inputs<T> in = inputs_of<T>(file_shape, 30, 3);
  KvCache<T> cache(
      file_shape,
      {.budget = 12, .evict = heavy_hitters, .select = SelectOptions{.head = 2, .relu = false}});
  const KvSequence<T> sequence = filled(cache, in, 30);
  const std::string bytes = file_of(sequence);
  const auto word = [&](std::size_t at) { return unsigned_at(bytes, at, 8); };
  const auto text = [&](std::size_t at) { return std::string(bytes.data() + at); };
  EXPECT_EQ(bytes.substr(0, 8), "heed KV\n");
  EXPECT_EQ(bytes.substr(8, 8), std::string("\4\3\2\1\1\0\0\0", 8));
  const std::string name = sizeof(T) == 4 ? "float32" : "float64";
  EXPECT_EQ(text(16), name);
  EXPECT_EQ(text(32), name);
  EXPECT_EQ(text(48), "heavy_hitters");
  std::size_t at = 112;
  EXPECT_EQ(number_at<double>(bytes, at), 1);
  const Index sizes[] = {file_shape.heads, file_shape.key_heads, file_shape.dim,
                         file_shape.value_dim, 2};
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(Index(word(120 + 8 * i)), sizes[i]) << i;
  EXPECT_EQ(unsigned_at(bytes, 160, 4), 0b111101u);
  EXPECT_EQ(unsigned_at(bytes, 164, 4), 2u);
  EXPECT_EQ(word(168), 1u);
  EXPECT_EQ(word(176), 30u);
  EXPECT_EQ(word(184), 12u);
  EXPECT_EQ(word(192), fnv1a(bytes.substr(0, 192)));
  at = 200;
  ASSERT_EQ(number_at<std::int64_t>(bytes, at), 12);
  EXPECT_EQ(number_at<double>(bytes, at), 0);
  for (const KvToken<T>& token : sequence.held()) {
    EXPECT_EQ(number_at<std::int64_t>(bytes, at), token.position);
    EXPECT_NEAR(number_at<T>(bytes, at), -token.f * 1.4426950408889634, 1e-5);
    EXPECT_EQ(number_at<T>(bytes, at), token.weight);
    EXPECT_EQ(bytes.at(at++), 0);
    for (Index g = 0; g < 2; ++g) {
      for (Index d = 0; d < 6; ++d)
        EXPECT_EQ(number_at<T>(bytes, at), in.k(0, g, token.position, d));
      for (Index d = 0; d < 5; ++d)
        EXPECT_EQ(number_at<T>(bytes, at), in.v(0, g, token.position, d));
    }
  }
  EXPECT_EQ(word(at), fnv1a(bytes.substr(0, at)));
  EXPECT_EQ(bytes.size(), at + 8);
}

/// Files that exist must stay readable: a change of these numbers needs another version. All
/// builds, whatever their registers, write the same bytes: F is exact here.
TYPED_TEST(KvFiles, PinTheFormat) {
  using T = typename TypeParam::T;
  Inputs<T> in = inputs_of<T>(file_shape, 40, 4);
  in.q.setZero();
  for (Index i = 0; i < in.k.size(); ++i) in.k.data()[i] = T(i * 37 % 101 - 50) / T(8);
  for (Index i = 0; i < in.v.size(); ++i) in.v.data()[i] = T(i * 41 % 103 - 51) / T(16);
  typename TypeParam::Cache cache(file_shape, {.budget = 10, .protect = {0, 3}});
  const std::string bytes = file_of(filled(cache, in, 40));
  EXPECT_EQ(unsigned_at(bytes, bytes.size() - 8, 8), TypeParam::sum);
}

/// What is known of keys and values that are not finite comes back: a token with such a key goes
/// first, and rows that do not see such a value are finite although it is still in its page.
TYPED_TEST(KvFiles, KnowWhatIsNotFinite) {
  using T = typename TypeParam::T;
  Inputs<T> in = inputs_of<T>(file_shape, 60, 5);
  in.k.chip(25, 2).setConstant(std::numeric_limits<T>::quiet_NaN());
  in.v.chip(3, 2).setConstant(std::numeric_limits<T>::infinity());
  KvOptions o{.budget = 28};
  o.chunk = 16;  // so many rows that values are not read as they are stored
  typename TypeParam::Cache one(file_shape, o, this->pool(1)), other(file_shape, o, this->pool(2));
  auto saved = one.open();
  Buffered<T> got = answers_to(in);
  step(one, saved, in, 0, 28, got);
  Buffered<T> want = got;
  const std::string bytes = file_of(saved);
  auto back = loaded(bytes, other);
  step(other, back, in, 28, 29, got);
  EXPECT_EQ(got.evict_row(0, 25), 28);
  back = loaded(bytes, other);
  saved.drop(2, 27), back.drop(2, 27);  // the next tokens take the slots of the last of these
  step(one, saved, in, 28, 44, want);
  step(other, back, in, 28, 44, got);
  for (Index i = 28; i < 44; ++i)
    for (Index d = 0; d < file_shape.value_dim; ++d)
      EXPECT_NEAR(got.out(0, 1, i, d), want.out(0, 1, i, d), 1e-4) << i;
}

/// One byte changed anywhere, in several ways; and the file cut off anywhere.
TYPED_TEST(KvFiles, AreRefusedIfDamagedOrTruncated) {
  using T = typename TypeParam::T;
  const Inputs<T> in = inputs_of<T>(file_shape, 6, 6);
  typename TypeParam::Cache cache(file_shape, {.budget = 4, .evict = least_attended_last});
  const std::string bytes = file_of(filled(cache, in, 6));
  ASSERT_EQ(loaded(bytes, cache).count(), 4);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (const int change : {1, 2, 4, 8, 16, 32, 64, 128, 255}) {
      std::string damaged = bytes;
      damaged[i] = char(damaged[i] ^ change);
      ASSERT_NE(refusal(damaged, cache), "nothing was thrown") << "byte " << i;
    }
    ASSERT_TRUE(says(refusal(bytes.substr(0, i), cache), "the file ends in the middle")) << i;
  }
}

// ---- one type is enough for what follows

struct OtherName : MostMasked {
  static constexpr const char* name = "most masked but for its name";
};
struct LongName : MostMasked {
  static constexpr const char* name =
      "a rule whose name is as long as no name of a rule should be, 64.";
};

class FloatFiles : public testing::Test {
 protected:
  const Inputs<float> in = inputs_of<float>(file_shape, 40, 7);
  const KvOptions options{.budget = 9};
  KvCache<float> cache{file_shape, options};
  const KvSequence<float> sequence = filled(cache, in, 40);
  const std::string bytes = file_of(sequence);
  static constexpr std::size_t count_at = 200, dropped_at = 208, first_at = 216,
                               token_bytes = 8 + 4 + 1 + 2 * 11 * 4;
};

TEST_F(FloatFiles, FollowOneAnotherInAStream) {
  std::stringstream stream;
  const KvSequence<float> empty = cache.open();
  KvSequence<float> shorter = sequence;
  shorter.drop(10, 39);
  save(stream, sequence), save(stream, empty), save(stream, shorter);
  stream << "more";
  expect_same_state(load(stream, cache), sequence);
  expect_same_state(load(stream, cache), empty);
  expect_same_state(load(stream, cache), shorter);
  std::string rest;
  stream >> rest;
  EXPECT_EQ(rest, "more");
}

/// An own budget, and what evictions by score_bound have cost.
TEST_F(FloatFiles, KeepTheBudgetOfTheSequence) {
  for (const std::optional<Index> budget :
       {std::optional<Index>(6), std::optional<Index>(30), std::optional<Index>()}) {
    KvSequence<float> own = sequence;
    cache.set_budget(own, budget);
    Tensor<float> out(1, file_shape.heads, 40, file_shape.value_dim);
    cache.step({&own}, in.q, in.k, in.v, standard, out);
    expect_same_state(loaded(file_of(own), cache), own);
  }
  KvCache<float> bound(file_shape, {.score_bound = 3.0, .negligible = 1.0});
  Inputs<float> loud = in;
  loud.q = loud.q * loud.q.constant(30.F);
  const KvSequence<float> forgets = filled(bound, loud, 40);
  ASSERT_GT(forgets.dropped(), 0);
  expect_same_state(loaded(file_of(forgets), bound), forgets);
}

/// Numbers that no sequence has, with the right checksums.
TEST_F(FloatFiles, AreRefusedIfForged) {
  const std::size_t second_at = first_at + token_bytes, mark_at = first_at + 12;
  const auto huge = std::uint64_t(1) << 60;
  const auto forged = [&](std::size_t at, std::size_t size, std::uint64_t x) {
    return refusal(with(bytes, at, size, x), cache);
  };
  EXPECT_TRUE(says(forged(count_at, 8, huge), "the budget is 9"));
  EXPECT_TRUE(says(forged(count_at, 8, 10), "10 of 40 tokens are held, the budget is 9"));
  EXPECT_TRUE(says(forged(count_at, 8, ~std::uint64_t(0)), "-1 of 40 tokens"));
  EXPECT_TRUE(says(forged(176, 8, 8), "9 of 8 tokens"));
  EXPECT_TRUE(says(forged(176, 8, 39), "the next one is 39"));
  EXPECT_TRUE(says(forged(176, 8, huge), "the file says next"));
  EXPECT_TRUE(says(forged(176, 8, ~std::uint64_t(0)), "the file says next -1"));
  EXPECT_TRUE(says(forged(184, 8, huge), "the file says budget"));
  EXPECT_TRUE(says(forged(184, 8, ~std::uint64_t(1)), "the file says budget -2"));
  EXPECT_TRUE(says(forged(120, 8, huge), "the file says heads"));
  EXPECT_TRUE(says(forged(152, 8, huge), "the file says select->head"));
  EXPECT_TRUE(says(forged(160, 4, 64 + 63), "selection options 127"));
  EXPECT_TRUE(says(forged(160, 4, 2), "selection options 2"));
  EXPECT_TRUE(says(forged(168, 8, 2), "2 sets of key heads"));
  EXPECT_TRUE(says(forged(48 + 63, 1, 'x'), "no text"));
  EXPECT_TRUE(says(forged(48, 1, '\n'), "no text"));
  EXPECT_TRUE(says(forged(dropped_at, 8, std::uint64_t(0x7ff8) << 48), "dropped"));
  EXPECT_TRUE(says(forged(dropped_at, 8, std::uint64_t(0xbff0) << 48), "-1 were dropped"));
  EXPECT_TRUE(says(forged(first_at, 8, ~std::uint64_t(0)), "position -1 behind"));
  EXPECT_TRUE(says(forged(second_at, 8, 0), "position 0 behind that of 0"));
  EXPECT_TRUE(says(forged(first_at + 8 * token_bytes, 8, 40), "position 40 behind"));
  EXPECT_TRUE(says(forged(mark_at, 1, 2), "marks a token with 2"));
  // Fewer tokens than there are: the rest is no checksum.
  EXPECT_TRUE(says(forged(count_at, 8, 8), "checksum"));
  EXPECT_TRUE(says(refusal<ValueError>(with(bytes, 184, 8, 1), cache), "budget is 1"));
  // A step must find a token to evict.
  KvCache<float> half(file_shape, {.budget = 30, .evict = heavy_hitters, .recent = 15});
  EXPECT_TRUE(says(refusal<ValueError>(with(file_of(half.open()), 184, 8, 10), half),
                   "budget is 10, must be at least 16"));
}

/// Memory is taken as tokens arrive, not as the file promises.
TEST_F(FloatFiles, TakeNoMemoryForTokensThatAreNotThere) {
  KvCache<float> unlimited(file_shape, {});
  std::string lie = file_of(filled(unlimited, in, 3));
  for (const int bits : {20, 40, 55}) {
    put(lie, 176, 8, std::uint64_t(1) << bits), put(lie, count_at, 8, std::uint64_t(1) << bits);
    KvCache<float> fresh(file_shape, {});
    EXPECT_TRUE(says(refusal(sign(lie), fresh), "ends in the middle"));
    EXPECT_LE(fresh.pool().bytes_reserved(), 3 * fresh.pool().page_bytes());
  }
  KvPool<float> tight(file_shape.dim, file_shape.value_dim,
                      {.page = KvPool<float>::slot_multiple, .bytes = std::size_t(1) << 16});
  KvCache<float> scarce(file_shape, {}, tight), roomy(file_shape, {});
  const Inputs<float> longer = inputs_of<float>(file_shape, 2000, 8);
  EXPECT_THROW(loaded(file_of(filled(roomy, longer, 2000)), scarce), OutOfPages);
  EXPECT_EQ(tight.pages_held(), 0);
}

/// Both sides are named.
TEST_F(FloatFiles, AreRefusedByOtherCaches) {
  KvCache<double> wide(file_shape, options);
  EXPECT_TRUE(says(refusal(bytes, wide),
                   "of float32 stored as float32, the cache is of float64 "
                   "stored as float64"));
  KvCache<float, std::int8_t> narrow(file_shape, options);
  EXPECT_TRUE(says(refusal(bytes, narrow),
                   "of float32 stored as float32, the cache is of float32 "
                   "stored as int8"));
  KvCache<double, Eigen::half> half(file_shape, options);
  KvCache<float, Eigen::half> single(file_shape, options);
  EXPECT_TRUE(says(refusal(file_of(half.open()), single), "of float64 stored as float16"));
  for (const KvShape& shape : {KvShape{1, 8, 2, 6, 5}, KvShape{1, 4, 4, 6, 5},
                               KvShape{1, 4, 2, 5, 5}, KvShape{1, 4, 2, 6, 6}}) {
    KvCache<float> to(shape, options);
    EXPECT_TRUE(says(refusal<ShapeError>(bytes, to),
                     "the sequence has 4 query heads, 2 key heads, keys of 6 and values of 5 "
                     "numbers, the buffer it should go to "));
  }
  for (const SelectOptions& select :
       {SelectOptions{.head = 1}, SelectOptions{.relu = false}, SelectOptions{.shift = false},
        SelectOptions{.protect_first = false}, SelectOptions{.forbid_self = false},
        SelectOptions{.accumulate = false}}) {
    KvOptions o = options;
    o.select = select;
    KvCache<float> to(file_shape, o);
    EXPECT_TRUE(says(refusal<ValueError>(bytes, to), "the sequence was made with select->"));
    EXPECT_TRUE(says(refusal<ValueError>(file_of(to.open()), cache), "with select->"));
  }
  KvOptions plain = options;
  plain.select = std::nullopt;
  KvCache<float> selects_not(file_shape, plain);
  EXPECT_TRUE(says(refusal<ValueError>(bytes, selects_not), "made with select 1, the buffer"));
  for (const EvictionRule& rule :
       {EvictionRule(oldest), EvictionRule(heavy_hitters), EvictionRule(OtherName{})}) {
    KvOptions o = options;
    o.evict = rule;
    KvCache<float> to(file_shape, o);
    const std::string evicts = std::string(", the cache by ") + rule.name();
    const std::string said = refusal<ValueError>(bytes, to);
    EXPECT_TRUE(says(said, "the sequence of the file evicts by most_masked"));
    EXPECT_TRUE(says(said, evicts));
  }
  // A rule of the same name that counts other weights.
  EXPECT_TRUE(says(refusal<ValueError>(with(bytes, 112, 8, 0x3ff0ULL << 48), cache),
                   "weights_kept 1), the cache by most_masked (1, 0)"));
  EXPECT_TRUE(says(refusal<ValueError>(with(bytes, 164, 4, 0), cache), "(evidence 0, weights"));
  EXPECT_TRUE(says(refusal(with(bytes, 12, 4, 3), cache),
                   "the file is of version 3, this library reads versions 1 … 2"));
  EXPECT_TRUE(says(refusal(with(bytes, 8, 4, 0x04030201), cache), "in another order"));
  EXPECT_TRUE(says(refusal("some other file of 200 bytes", cache), "none of a KvSequence"));
}

/// What a step may change is not compared.
TEST_F(FloatFiles, GoOnUnderOtherChunksAndProtections) {
  KvCache<float> to(file_shape, {.budget = 9,
                                 .when = EvictWhen::after_row,
                                 .protect = {0, sequence.held()[3].position},
                                 .chunk = 5});
  KvSequence<float> back = loaded(bytes, to);
  Tensor<float> out(1, file_shape.heads, 40, file_shape.value_dim);
  to.step({&back}, in.q, in.k, in.v, standard, out);
  EXPECT_EQ(back.count(), 9);
  EXPECT_EQ(back.held()[1].position, sequence.held()[3].position);
}

/// A stream that takes `room` bytes.
struct ShortStream : std::streambuf {
  explicit ShortStream(std::size_t room) : bytes(room, '\0') { setp(&bytes[0], &bytes[0] + room); }
  std::string bytes;
};

TEST_F(FloatFiles, AreWrittenWholeOrAnErrorSaysSo) {
  for (const std::size_t room : {std::size_t(0), std::size_t(199), bytes.size() - 1}) {
    ShortStream narrow(room);
    std::ostream stream(&narrow);
    EXPECT_TRUE(says(message_of<FileError>([&] { save(stream, sequence); }), "the stream took"));
  }
  ShortStream enough(bytes.size());
  std::ostream stream(&enough);
  save(stream, sequence);
  EXPECT_TRUE(enough.bytes == bytes);
  std::ostringstream untouched;
  EXPECT_THROW(save(untouched, KvSequence<float>()), ValueError);
  KvCache<float> named(file_shape, {.budget = 9, .evict = LongName{}});
  EXPECT_TRUE(says(message_of<ValueError>([&] { save(untouched, named.open()); }), "64 letters"));
  EXPECT_EQ(untouched.str(), "");
}

}  // namespace
}  // namespace heed::test
