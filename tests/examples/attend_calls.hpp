// SPDX-License-Identifier: MIT
/// @file
/// Calls of the program attend on files of their own, and of the oracle on the same tensors.
#pragma once

#include "attend/npy.hpp"
#include "attend/program.hpp"
#include "examples/temporary_folder.hpp"
#include "reference/attention.hpp"
#include "support/random.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace attend {

using reference::Array;
using Words = std::vector<std::string>;

/// A folder in which q, k and v lie, for the program and for the oracle.
class AttendCalls : public TemporaryFolder {
 protected:
  /// Two sequences of 37 tokens, four heads that share two key heads, dims 8 and 5.
  static constexpr std::ptrdiff_t batch = 2, heads = 4, key_heads = 2, tokens = 37, dim = 8,
                                  value_dim = 5;

  AttendCalls() { save("q", q_), save("k", k_), save("v", v_); }

  static Array random(std::uint64_t seed, std::vector<std::ptrdiff_t> dims) {
    Array x(std::move(dims));
    heed::test::Random numbers(seed);
    for (double& value : x.values) value = float(numbers.normal());  // exact in either type
    return x;
  }
  static reference::Rules seen(reference::Visible visible) {
    reference::Rules rules;
    rules.visible = std::move(visible);
    return rules;
  }

  std::string path(const std::string& name) const { return (folder_ / (name + ".npy")).string(); }

  template <class T = float>
  std::string save(const std::string& name, const Array& x) const {
    npy::Array array = npy::zeros(npy::type_of<T>(), {x.dims.begin(), x.dims.end()});
    std::ranges::transform(x.values, array.values<T>().begin(), [](double y) { return T(y); });
    std::ofstream stream(path(name), std::ios::binary);
    npy::write(stream, array);
    return path(name);
  }

  Array load(const std::string& name) const {
    const npy::Array array = npy::read(path(name));
    Array x(std::vector<std::ptrdiff_t>(array.shape.begin(), array.shape.end()));
    const auto copy = [&](auto values) { std::ranges::copy(values, x.values.begin()); };
    if (array.type == npy::Type::float32) copy(array.values<float>());
    if (array.type == npy::Type::float64) copy(array.values<double>());
    if (array.type == npy::Type::int64) copy(array.values<std::int64_t>());
    return x;
  }

  struct Ran {
    int code;
    std::string out, err;
  };
  Ran run(const Words& options) const {
    Words words{"attend", "--q",     path("q"), "--k",      path("k"),
                "--v",    path("v"), "--out",   path("out")};
    words.insert(words.end(), options.begin(), options.end());
    return call(words);
  }
  static Ran call(const Words& words) {
    std::vector<const char*> argv;
    for (const std::string& word : words) argv.push_back(word.c_str());
    std::ostringstream out, err;
    const int code = attend::program(int(argv.size()), argv.data(), out, err);
    return {code, out.str(), err.str()};
  }

  /// What is in the folder beside the inputs that were there before.
  Words outputs() const {
    Words names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("out") || name.starts_with("lse") || name.find("part") != name.npos)
        names.push_back(name);
    }
    return names;
  }

  static void expect_near(const Array& x, const Array& wanted, double tolerance) {
    ASSERT_EQ(x.dims, wanted.dims);
    double scale = 1, worst = 0;
    for (std::size_t i = 0; i < x.values.size(); ++i) {
      if (x.values[i] == wanted.values[i]) continue;  // −∞ too
      scale = std::max(scale, std::abs(wanted.values[i]));
      const double error = std::abs(x.values[i] - wanted.values[i]);
      worst = std::isnan(error) ? reference::infinity : std::max(worst, error);
    }
    EXPECT_LT(worst / scale, tolerance);
  }

  /// A run that must succeed and give this.
  void expect_attention(const Words& options, const reference::Rules& rules) const {
    Words words = options;
    words.insert(words.end(), {"--lse", path("lse")});
    const Ran ran = run(words);
    ASSERT_EQ(ran.code, 0) << ran.err;
    EXPECT_EQ(ran.out + ran.err, "");
    const reference::Attention wanted = reference::attention(q_, k_, v_, rules);
    expect_near(load("out"), wanted.out, 5e-6);
    expect_near(load("lse"), wanted.lse, 5e-6);
  }

  void expect_refusal(const Words& options, const std::string& reason) const {
    const Ran ran = run(options);
    EXPECT_EQ(ran.code, 2);
    EXPECT_EQ(ran.err, "attend: " + reason + "\n");
    EXPECT_EQ(ran.out, "");
    EXPECT_EQ(outputs(), Words());
  }

  Array q_ = random(1, {batch, heads, tokens, dim});
  Array k_ = random(2, {batch, key_heads, tokens, dim});
  Array v_ = random(3, {batch, key_heads, tokens, value_dim});
};

}  // namespace attend
