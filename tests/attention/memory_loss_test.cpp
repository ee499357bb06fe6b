// SPDX-License-Identifier: MIT
#include "heed/attention/memory_loss.hpp"

#include "reference/memory_loss.hpp"
#include "support/fixtures.hpp"
#include "support/gradients.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace heed::test {
namespace {

template <class T>
class MemoryLoss : public testing::Test {
 protected:
  using Layers = std::vector<Tensor<T, 2>>;

  /// So many tensors as the first, NaN.
  static Layers unwritten(const Layers& like) {
    Layers x = like;
    for (Tensor<T, 2>& layer : x) layer.setConstant(std::numeric_limits<T>::quiet_NaN());
    return x;
  }
};
TYPED_TEST_SUITE(MemoryLoss, Scalars, ScalarName);

/// Through two layers and back: what the loss is, and what it makes of q and k.
TYPED_TEST(MemoryLoss, GivesTheGoldenLossAndGradients) {
  using T = TypeParam;
  const Fixture& f = fixture("lmem_2layers");
  const double tau = f.number("tau");
  const auto lengths = tensor<std::int64_t, 1>(f.array("lengths"));
  Mixture<T> m;
  m.causal = m.selects = true;
  m.memory_tau = tau;
  std::vector<Inputs<T>> in;
  std::vector<Mixed<T>> known;
  typename TestFixture::Layers memory;
  for (const char* layer : {"0", "1"}) {
    const auto of = [&](std::string name) { return tensor<T>(f.array(name + layer)); };
    in.push_back({of("q"), of("k"), of("v")});
    known.push_back(m.attend(in.back()));
    memory.push_back(known.back().memory);
  }
  auto grad = this->unwritten(memory);
  const double loss = memory_loss(memory, lengths, {.epsilon = f.number("eps")}, grad);
  EXPECT_NEAR(loss, f.array("loss")(0), tolerance<T>);

  for (std::size_t l = 0; l < 2; ++l) {
    for (Index b = 0; b < 2; ++b)
      for (Index i = 0; i < 18; ++i)
        EXPECT_EQ(grad[l](b, i) != T(0), i == Index(f.array("argmax_row")(Index(l), b)));
    m.grad_memory = grad[l];
    const Tensor<T> none = zeros<T, 4>({2, 2, 18, 16});
    const Gradients<T> got = m.backward(in[l], known[l], none);
    EXPECT_TRUE(close(got.q, f.array("dq" + std::to_string(l))));
    EXPECT_TRUE(close(got.k, f.array("dk" + std::to_string(l))));
    EXPECT_TRUE(same_bits(got.v, zeros<T, 4>({2, 2, 18, 16})));
  }
}

TYPED_TEST(MemoryLoss, MatchesTheOracle) {
  using T = TypeParam;
  const typename TestFixture::Layers memory{uniform<T>(1, 3, 40), uniform<T>(2, 3, 40),
                                            uniform<T>(3, 3, 40)};
  auto grad = this->unwritten(memory);
  const std::array<std::int64_t, 3> lengths{40, 1, 17};
  const double loss = memory_loss(memory, View<const std::int64_t, 1>(lengths.data(), {3}),
                                  {.epsilon = 0.02}, grad);
  const std::vector<reference::Array> held{array(memory[0]), array(memory[1]), array(memory[2])};
  EXPECT_NEAR(loss, reference::memory_loss(held, 0.02, {40, 1, 17}).loss, 1e-12);
  const auto want = reference::memory_loss_backward(held, 0.02, {40, 1, 17});
  for (std::size_t l = 0; l < 3; ++l) EXPECT_TRUE(close(grad[l], want[l], 1e-8));
}

TYPED_TEST(MemoryLoss, CountsAllRowsUnlessToldHowManyThereAre) {
  using T = TypeParam;
  typename TestFixture::Layers memory{Tensor<T, 2>(2, 4)};
  memory[0].setValues({{1, 2, 3, 4}, {1, 2, 2, 1}});
  auto grad = this->unwritten(memory);
  EXPECT_NEAR(memory_loss(memory, {}, {.epsilon = 1}, grad), (4 / 4. + 2 / 4.) / 2, 1e-15);
  Tensor<T, 2> want(2, 4);
  want.setValues({{0, 0, 0, T(0.125)}, {0, T(0.125), 0, 0}});  // of equals the first
  EXPECT_TRUE(same_bits(grad[0], want));
}

/// Four documents in two rows of tokens, padding in front and behind, are a batch of four.
TYPED_TEST(MemoryLoss, OfAPackIsThatOfItsDocumentsAsABatch) {
  using T = TypeParam;
  const Index first[] = {2, 9, 0, 6}, last[] = {9, 14, 6, 16}, entry[] = {0, 0, 1, 1};
  typename TestFixture::Layers pack, batch;
  for (std::uint64_t l = 0; l < 3; ++l) {
    pack.push_back(uniform<T>(20 + l, 2, 16));
    batch.push_back(Tensor<T, 2>(4, 10));
    batch.back().setConstant(T(100));  // behind the last row, where nothing counts
    for (Index d = 0; d < 4; ++d)
      for (Index i = first[d]; i < last[d]; ++i) batch[l](d, i - first[d]) = pack[l](entry[d], i);
  }
  Tensor<std::int64_t, 2> ids(2, 16);
  ids.setConstant(7);  // padding has some document's number
  Tensor<std::int64_t, 1> starts(2), lengths(2), sizes(4);
  starts.setValues({2, 0}), lengths.setValues({14, 16});
  for (Index d = 0; d < 4; ++d) {
    sizes(d) = last[d] - first[d];
    for (Index i = first[d]; i < last[d]; ++i) ids(entry[d], i) = d;
  }
  auto grad = this->unwritten(pack), want = this->unwritten(batch);
  const double loss =
      memory_loss(pack, lengths, {.epsilon = 0.3, .documents = ids, .starts = starts}, grad);
  EXPECT_NEAR(loss, memory_loss(batch, sizes, {.epsilon = 0.3}, want), tolerance<T>);
  for (std::size_t l = 0; l < 3; ++l) {
    double sum = 0, wanted = 0;
    for (Index d = 0; d < 4; ++d)
      for (Index i = first[d]; i < last[d]; ++i) {
        EXPECT_EQ(grad[l](entry[d], i), want[l](d, i - first[d])) << d << ' ' << i;
        wanted += double(want[l](d, i - first[d]));
      }
    for (Index i = 0; i < grad[l].size(); ++i) sum += double(grad[l].data()[i]);
    EXPECT_NEAR(sum, wanted, tolerance<T>) << "padding takes a gradient";
  }
  starts(1) = 17;
  EXPECT_NE(message_of<ValueError>([&] {
              memory_loss(pack, lengths, {.starts = starts}, grad);
            }).find("starts[1] is 17"),
            std::string::npos);
}

TYPED_TEST(MemoryLoss, OfNoTokensIsNothing) {
  using T = TypeParam;
  typename TestFixture::Layers memory{Tensor<T, 2>(2, 3)};
  memory[0].setConstant(T(9));
  auto grad = this->unwritten(memory);
  const std::array<std::int64_t, 2> lengths{0, 2};
  EXPECT_NEAR(memory_loss(memory, View<const std::int64_t, 1>(lengths.data(), {2}), {}, grad),
              0.1 * 9 / 2 / 2, 1e-15);
  Tensor<T, 2> want = zeros<T, 2>({2, 3});
  want(1, 0) = T(0.1 / 2 / 2);
  EXPECT_TRUE(same_bits(grad[0], want));
}

TYPED_TEST(MemoryLoss, RefusesWhatDoesNotFitAndWritesNothing) {
  using T = TypeParam;
  typename TestFixture::Layers memory(2, Tensor<T, 2>(2, 4)), one(1, Tensor<T, 2>(2, 4)),
      other{Tensor<T, 2>(2, 4), Tensor<T, 2>(2, 5)}, none;
  for (auto& m : memory) m.setZero();
  auto grad = memory;
  for (auto& g : grad) g.setConstant(T(3));
  const std::array<std::int64_t, 3> beyond{1, 5, 1};
  const View<const std::int64_t, 1> two(beyond.data(), {2}), three(beyond.data(), {3});
  const auto says = [](const std::string& message, const char* words) {
    EXPECT_NE(message.find(words), std::string::npos) << message;
  };
  says(message_of<ValueError>([&] { memory_loss(none, {}, {}, none); }), "no layers");
  says(message_of<ShapeError>([&] { memory_loss(memory, {}, {}, one); }),
       "2 layers and 1 gradients");
  says(message_of<ShapeError>([&] { memory_loss(other, {}, {}, grad); }), "is [2, 5]");
  says(message_of<ShapeError>([&] { memory_loss(memory, {}, {}, other); }), "is [2, 5]");
  says(message_of<ShapeError>([&] { memory_loss(memory, three, {}, grad); }), "is [3]");
  says(message_of<ValueError>([&] { memory_loss(memory, two, {}, grad); }), "lengths[1] is 5");
  for (const double epsilon :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()})
    says(message_of<ValueError>([&] { memory_loss(memory, {}, {.epsilon = epsilon}, grad); }),
         "memory_loss: epsilon is");
  says(message_of<ShapeError>([&] { memory_loss(grad, {}, {}, grad); }), "gradient overlaps");
  // The gradient of one layer may not be the memory of another either.
  std::vector<View<T, 2>> to{grad[0], memory[0]};
  says(message_of<ShapeError>([&] { memory_loss(memory, {}, {}, to); }), "gradient overlaps");
  to = {View<T, 2>(grad[0]), View<T, 2>(grad[0])};
  says(message_of<ShapeError>([&] { memory_loss(memory, {}, {}, to); }), "gradient overlaps");
  to = {View<T, 2>(grad[0]), View<T, 2>(nullptr, {2, 4})};
  says(message_of<ValueError>([&] { memory_loss(memory, {}, {}, to); }), "its data is null");
  for (const auto& g : grad)
    for (Index i = 0; i < g.size(); ++i) EXPECT_EQ(g.data()[i], T(3));
}

}  // namespace
}  // namespace heed::test
