// SPDX-License-Identifier: MIT
// The caches of all layers of a model: what a step does, that all layers take it or none, forks,
// marks and files of whole texts.

#include "heed/kv/kv_model.hpp"

#include "heed/kv/kv_model_file.hpp"
#include "support/caches.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace heed::test::models {
namespace {

using Model = KvModel<float>;
using Text = KvModelSequence<float>;
using Budgets = std::vector<std::optional<Index>>;

constexpr Index page = small_page<float>;
const Budgets budgets{20, std::nullopt, 33};

Model model_of(const Budgets& of, std::optional<Index> pages = {}) {
  return {cache_shape, of, {}, KvPool<float>(8, 8, {.page = page, .pages = pages})};
}

/// Numbers of one layer, which differ from layer to layer.
Inputs<float> rows_of_layer(Index layer, Index batch, Index rows, std::uint64_t seed) {
  return rows_for<float>(batch, rows, 100 * seed + std::uint64_t(layer));
}
Tensor<float> take_layer(KvModelStep<float>& step, Index layer, const Inputs<float>& in) {
  Tensor<float> out(in.q.dimension(0), 4, in.q.dimension(2), 8);
  out.setConstant(std::numeric_limits<float>::quiet_NaN());
  step.take(layer, in.q, in.k, in.v, standard, out);
  return out;
}
/// All layers take rows[b] tokens of each text. Returns the layers' answers.
std::vector<Tensor<float>> step(Model& model, const std::vector<Text*>& texts,
                                const std::vector<std::int64_t>& rows, std::uint64_t seed) {
  std::int64_t longest = 0;
  for (const std::int64_t n : rows) longest = std::max(longest, n);
  KvModelStep<float> step = model.begin(texts, rows);
  std::vector<Tensor<float>> outs;
  for (Index l = 0; l < model.size(); ++l)
    outs.push_back(take_layer(step, l, rows_of_layer(l, Index(rows.size()), Index(longest), seed)));
  return outs;
}
void expect_same_memory(const Text& a, const Text& b) {
  ASSERT_EQ(a.size(), b.size());
  for (Index l = 0; l < a.size(); ++l) EXPECT_TRUE(same_memory(a[l], b[l])) << l;
}

TEST(Models, StepAsTheirLayersDo) {
  Model model = model_of(budgets);
  ASSERT_EQ(model.size(), 3);
  Text a = model.open(), b = model.open();
  const std::vector<std::int64_t> rows{40, 7};
  const auto outs = step(model, {&a, &b}, rows, 1);
  for (Index l = 0; l < 3; ++l) {
    KvCache<float> alone(cache_shape, {.budget = budgets[std::size_t(l)]},
                         KvPool<float>(8, 8, {.page = page}));
    KvSequence<float> x = alone.open(), y = alone.open();
    KvSequence<float>* const both[] = {&x, &y};
    Tensor<float> want(2, 4, 40, 8);
    standard_step(alone, both, rows_of_layer(l, 2, 40, 1), want, {.tokens = {rows.data(), {2}}});
    EXPECT_TRUE(same_bits(outs[std::size_t(l)], want)) << l;
    EXPECT_TRUE(same_memory(a[l], x)) << l;
    EXPECT_TRUE(same_memory(b[l], y)) << l;
  }
  EXPECT_EQ(a.next(), 40);
  EXPECT_DOUBLE_EQ(a.memory_ratio(), (20. + 40 + 33) / 120);
  EXPECT_EQ(a.pages() + b.pages(), model.pool().pages_held());
  EXPECT_EQ(model.bytes(), model.pool().bytes_reserved() + model.scratch_bytes());
  EXPECT_EQ(a.bytes(), a[0].bytes() + a[1].bytes() + a[2].bytes());
  EXPECT_LE(a.pages(), model.pages_for(40));
  EXPECT_GT(model.scratch_bytes(), 0u);
}

/// Packed rows are the same rows.
TEST(Models, StepInPackedRows) {
  Model model = model_of(budgets);
  Text a = model.open(), b = model.open(), x = model.open(), y = model.open();
  const std::vector<std::int64_t> rows{9, 3};
  const auto want = step(model, {&x, &y}, rows, 2);
  KvModelStep<float> step = model.begin({&a, &b}, {9, 3});
  for (Index l = 0; l < 3; ++l) {
    const Packed<float> in = packed(rows_of_layer(l, 2, 9, 2), rows);
    Tensor<float, 3> out(12, 4, 8);
    step.take_packed(l, in.q, in.k, in.v, standard, out);
    for (Index s = 0; s < 2; ++s)
      for (Index i = 0; i < rows[std::size_t(s)]; ++i)
        for (Index h = 0; h < 4; ++h)
          for (Index d = 0; d < 8; ++d)
            ASSERT_EQ(out(9 * s + i, h, d), want[std::size_t(l)](s, h, i, d));
  }
  expect_same_memory(a, x), expect_same_memory(b, y);
}

/// The pool has room for two layers, not for the third.
TEST(Models, TakeAStepInAllLayersOrInNone) {
  Model model = model_of({8, 8, std::nullopt}, 13);
  Text text = model.open(), filler = model.open();
  step(model, {&text, &filler}, {page, 1}, 3);
  ASSERT_EQ(model.pool().pages_held(), 12);  // one a layer and key head
  const auto memory = [&] {
    std::vector<std::vector<std::byte>> all;
    for (Index l = 0; l < 3; ++l) all.push_back(memory_of(text[l]));
    return all;
  };
  const auto before = memory();
  EXPECT_THROW(model.begin({&text}, {5}), OutOfPages);
  EXPECT_EQ(memory(), before);
  EXPECT_EQ(model.pool().pages_held(), 12);
  filler.close();
  step(model, {&text}, {5}, 4);
  EXPECT_EQ(text.next(), page + 5);
  EXPECT_EQ(model.pool().pages_held(), 8);
}

/// On a pool that is nearly full, with forks, a step that has begun does not run out.
TEST(Models, DoNotRunOutOfPagesOnceAStepHasBegun) {
  Model model = model_of(budgets, 60);
  Random random(5);
  std::vector<std::unique_ptr<Text>> texts;
  int begun = 0, refused = 0;
  for (int i = 0; i < 600; ++i) {
    if (texts.size() < 2 || random.uniform() < 0.1)
      texts.push_back(std::make_unique<Text>(
          texts.empty() || random.uniform() < 0.3
              ? model.open()
              : *texts[std::size_t(random.integer(0, Index(texts.size())))]));
    std::vector<Text*> some;
    std::vector<std::int64_t> rows;
    for (const auto& text : texts)
      if (random.uniform() < 0.6) {
        some.push_back(text.get());
        rows.push_back(random.uniform() < 0.8 ? 1 : random.integer(0, 50));
      }
    std::vector<Index> next;
    for (const Text* text : some) next.push_back(text->next());
    try {
      step(model, some, rows, std::uint64_t(i));
      ++begun;
      for (std::size_t b = 0; b < some.size(); ++b)
        for (Index l = 0; l < 3; ++l)
          ASSERT_EQ((*some[b])[l].next(), next[b] + Index(rows[b])) << i;
    } catch (const OutOfPages&) {
      ++refused;
      for (std::size_t b = 0; b < some.size(); ++b)
        for (Index l = 0; l < 3; ++l) ASSERT_EQ((*some[b])[l].next(), next[b]) << i;
      texts.erase(texts.begin() + random.integer(0, Index(texts.size())));
    }
  }
  EXPECT_GT(begun, 100);
  EXPECT_GT(refused, 10);
  texts.clear();
  EXPECT_EQ(model.pool().pages_held(), 0);
}

TEST(Models, ForkAndRollBackAllLayers) {
  Model model = model_of(budgets);
  Text a = model.open();
  step(model, {&a}, {45}, 6);
  const Text fork = a;
  EXPECT_EQ(model.pool().pages_held(), a.pages());
  EXPECT_EQ(a.own_pages(), 0);
  const auto mark = a.mark();
  step(model, {&a}, {4}, 7);
  EXPECT_EQ(fork.next(), 45);
  a.roll_back(mark);
  expect_same_memory(a, fork);
  // A step that only the first layer has taken.
  {
    KvModelStep<float> half = model.begin({&a}, {2});
    take_layer(half, 0, rows_of_layer(0, 1, 2, 8));
  }
  EXPECT_EQ(a[0].next(), 47);
  EXPECT_EQ(a[1].next(), 45);
  EXPECT_EQ(message_of<ValueError>([&] { model.begin({&a}, {1}); }),
            "begin: layer 1 of sequence 0 is at position 45, layer 0 at 47");
  a.roll_back(mark);
  expect_same_memory(a, fork);
  Text again = fork;
  const auto one = step(model, {&a}, {3}, 9), other = step(model, {&again}, {3}, 9);
  for (std::size_t l = 0; l < 3; ++l) EXPECT_TRUE(same_bits(one[l], other[l]));
  Text closed = fork;
  closed.close();
  EXPECT_FALSE(closed.is_open());
  EXPECT_EQ(message_of<ValueError>([&] { closed.mark(); }), "the sequence is closed");
  EXPECT_THROW(closed.roll_back(mark), ValueError);
  EXPECT_NE(message_of<ValueError>([&] { again.roll_back(mark); }).find("in layer 0"),
            std::string::npos);
  expect_same_memory(again, a);
  // Layers of two texts: nothing has changed in those before.
  Text mixed = a;
  mixed[0] = std::move(a[0]), a = mixed;
  EXPECT_THROW(mixed.roll_back(mark), ValueError);
  EXPECT_EQ(mixed[0].next(), 48);
}

TEST(Models, AreSavedAndLoadedWhole) {
  Model model = model_of(budgets), other = model_of(budgets), fewer = model_of({20, 33});
  Text a = model.open();
  step(model, {&a}, {45}, 10);
  std::stringstream file;
  save(file, a);
  save(file, a);
  const std::string bytes = file.str();
  Text b = load(file, other), c = load(file, model);
  EXPECT_EQ(b.next(), 45);
  for (Index l = 0; l < 3; ++l) EXPECT_EQ(held(b[l]), held(a[l])) << l;
  const auto one = step(model, {&c}, {3}, 11), same = step(other, {&b}, {3}, 11);
  for (std::size_t l = 0; l < 3; ++l) EXPECT_TRUE(same_bits(one[l], same[l])) << l;
  b.close();
  const auto refused = [&](const std::string& from, const Model& by) {
    std::istringstream stream(from);
    const Index before = by.pool().pages_held();
    const std::string said = message_of<FileError>([&] { load(stream, by); });
    EXPECT_EQ(by.pool().pages_held(), before);
    return said;
  };
  EXPECT_EQ(refused(bytes, fewer), "the file has 3 layers, the model has 2");
  std::string damaged = bytes;
  damaged[bytes.size() / 2 - 20] ^= 1;  // in the last layer
  EXPECT_NE(refused(damaged, other).find("damaged"), std::string::npos);
  damaged = bytes, damaged[14] ^= 1;
  EXPECT_NE(refused(damaged, other).find("damaged"), std::string::npos);
  damaged = bytes, damaged[8] = 2;
  EXPECT_EQ(refused(damaged, other), "the file is of version 2, this library reads version 1");
  EXPECT_NE(refused("heed KV\n and more than eight bytes", other).find("none of a KvModelSequence"),
            std::string::npos);
  EXPECT_NE(refused(bytes.substr(0, 500), other).find("ends in the middle"), std::string::npos);
  Text uneven = a, closed;
  uneven[1].clear();
  std::ostringstream odd;
  save(odd, uneven);
  EXPECT_EQ(refused(odd.str(), other), "layer 1 of the file is at position 0, layer 0 at 45");
  EXPECT_THROW(save(odd, closed), ValueError);
}

TEST(Models, RefuseWhatIsNoStep) {
  Model model = model_of(budgets), fewer = model_of({20, 33});
  Text a = model.open(), b = model.open(), closed, small = fewer.open();
  const auto said = [&](const std::vector<Text*>& texts, const std::vector<std::int64_t>& rows) {
    return message_of<ValueError>([&] { model.begin(texts, rows); });
  };
  EXPECT_EQ(said({&a, &b}, {1}), "begin: 1 numbers of rows, there are 2 sequences");
  EXPECT_NE(said({&a}, {-1}).find("has -1 rows, must be 0"), std::string::npos);
  EXPECT_EQ(said({&closed}, {1}), "the sequence has 0 layers, the model has 3");
  EXPECT_EQ(said({&small}, {1}), "the sequence has 2 layers, the model has 3");
  EXPECT_EQ(said({&a, nullptr}, {1, 1}), "sequence 1 of the step is null");
  EXPECT_EQ(said({&a, &a}, {1, 1}), "a step names one sequence twice");
  Model twin = model_of(budgets);
  Text foreign = twin.open();
  EXPECT_NE(said({&foreign}, {1}).find("of another cache"), std::string::npos);
  KvModelStep<float> step = model.begin({&a}, {1});
  const Inputs<float> in = rows_of_layer(0, 1, 1, 1);
  EXPECT_EQ(message_of<ValueError>([&] { take_layer(step, 1, in); }),
            "layer 1 takes the step, the next one is 0 of 3");
  for (Index l = 0; l < 3; ++l) take_layer(step, l, in);
  EXPECT_THROW(take_layer(step, 3, in), ValueError);
  EXPECT_EQ(a.next(), 1);
  EXPECT_EQ(message_of<ValueError>([&] { a[3].next(); }),
            "layer 3 is asked for, the sequence has 3");
  EXPECT_EQ(message_of<ValueError>([&] { model[-1].open(); }),
            "layer -1 is asked for, the model has 3");
  EXPECT_EQ(message_of<ValueError>([] { model_of({}); }),
            "KvModel: there are no layers, must be at least 1");
  // Texts go on in a model with other budgets, if these hold them.
  Model larger({.heads = 4, .key_heads = 2, .dim = 8, .value_dim = 8}, Budgets{50, 50, 50}, {});
  EXPECT_EQ(larger.open(a).next(), 1);
  EXPECT_THROW(fewer.open(a), ValueError);
}

}  // namespace
}  // namespace heed::test::models
