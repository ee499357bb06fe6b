// SPDX-License-Identifier: MIT
#include "heed/attention/temperature_attention.hpp"

#include "support/calls.hpp"

#include <gtest/gtest.h>

namespace heed::test {
namespace {

template <class T>
class TemperatureAttention : public testing::Test {};
TYPED_TEST_SUITE(TemperatureAttention, Scalars, ScalarName);

TYPED_TEST(TemperatureAttention, MatchesThePaperWrittenOutDensely) {
  using T = TypeParam;
  for (const bool shared : {false, true}) {
    const Inputs<T> in = inputs<T>(tokens(130, 16, 4, 2, 2), 1);
    const Tensor<T, 3> tau_q = normal<T>(2, 2, shared ? 1 : 4, 130),
                       tau_v = normal<T>(3, 2, shared ? 1 : 2, 130);
    Tensor<T> out(2, 4, 130, 16);
    temperature_attention(in.q, in.k, in.v, tau_q, tau_v, out);
    reference::Rules rules = seeing(reference::causal());
    rules.tau_q = array(tau_q);
    rules.tau_v = array(tau_v);
    EXPECT_TRUE(close(out, oracle(in, rules).out));
  }
}

TYPED_TEST(TemperatureAttention, NamesTheTemperaturesThatDoNotFit) {
  using T = TypeParam;
  const Inputs<T> in = inputs<T>(tokens(5, 8, 4, 2), 1);
  const Tensor<T, 3> right = normal<T>(1, 1, 4, 5), wrong = normal<T>(1, 1, 4, 6);
  Tensor<T> out(1, 4, 5, 8);
  EXPECT_NE(message_of<ShapeError>([&] {
              temperature_attention(in.q, in.k, in.v, wrong, right, out);
            }).find("query_temperature is [1, 4, 6]"),
            std::string::npos);
  EXPECT_NE(message_of<ShapeError>([&] {
              temperature_attention(in.q, in.k, in.v, right, right, out);
            }).find("value_temperature is [1, 4, 5]"),
            std::string::npos);
}

}  // namespace
}  // namespace heed::test
