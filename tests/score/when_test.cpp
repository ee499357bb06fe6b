// SPDX-License-Identifier: MIT
#include "heed/score/when.hpp"

#include "heed/score/bias.hpp"
#include "heed/score/causal.hpp"
#include "heed/score/selective.hpp"
#include "heed/score/softcap.hpp"
#include "heed/score/standard.hpp"
#include "heed/score/temperature.hpp"
#include "heed/score/window.hpp"
#include "support/calls.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace heed::test {
namespace {

TEST(RuntimeChoice, IsTheStageOrNothing) {
  using T = float;
  const Inputs<T> in = inputs<T>(tokens(110, 16, 2, 1), 1);
  Tensor<T> values = normal<T>(2, 1, 2, 1, 110);  // broadcast, and with a key that no row sees
  values(0, 0, 0, 3) = values(0, 1, 0, 3) = -std::numeric_limits<T>::infinity();
  const Tensor<T, 3> tau = normal<T>(3, 1, 1, 110);
  const auto variant = [&](bool on) {
    return when(on, query_temperature(tau) | value_temperature(tau)) | standard |
           when(on, softcap(2)) | when(on, bias(values)) | causal | when(on, window(20, 0)) |
           when(on, selective);
  };
  expect_same_bits(attend(in, variant(false)), attend(in, standard | causal));
  expect_same_bits(attend(in, variant(true)),
                   attend(in, query_temperature(tau) | value_temperature(tau) | standard |
                                  softcap(2) | bias(values) | causal | window(20, 0) | selective));
}

TEST(RuntimeChoice, AStageThatIsOffIsNotCheckedAndMayBeEmpty) {
  using T = float;
  const Inputs<T> in = inputs<T>(Shape{1, 2, 1, 5, 9, 8, 8}, 4);
  const auto variant = [](const View<const T, 4>& values, bool on) {
    return standard | when(on, bias(values)) | when(on, causal);
  };
  const Tensor<T> wrong = normal<T>(5, 1, 1, 3, 3);
  expect_close(attend(in, variant(wrong, false)), oracle(in));
  expect_close(attend(in, variant({}, false)), oracle(in));
  expect_refusal<ShapeError>(in, variant(wrong, true), "is [1, 1, 3, 3]");
}

TEST(RuntimeChoice, WritesNothingWhenOff) {
  using T = float;
  const Inputs<T> in = inputs<T>(tokens(20, 8), 7);
  Tensor<T, 2> carry(1, 20);
  carry.setConstant(T(5));
  const Tensor<T, 2> before = carry;
  attend(in, standard | causal | when(false, selective.carry_out(carry)));
  EXPECT_TRUE(same_bits(carry, before));
}

}  // namespace
}  // namespace heed::test
