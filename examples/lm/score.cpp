// SPDX-License-Identifier: MIT
#include "lm/score.hpp"

#include "lm/tasks.hpp"

#include <chrono>
#include <cmath>
#include <numbers>

namespace lm {

double bits_of(const Eigen::Ref<const Eigen::Matrix<float, 1, Eigen::Dynamic>>& logits,
               std::uint8_t byte) {
  const float most = logits.maxCoeff();
  const double sum = double((logits.array() - most).exp().sum());
  return (double(most) + std::log(sum) - double(logits[byte])) / std::numbers::ln2;
}

Score score(const Model& model, const Forgetting& forgetting, std::span<const Bytes> windows) {
  Memory memory(model.config(), forgetting);
  Score total;
  std::int64_t late = 0;
  const auto start = std::chrono::steady_clock::now();
  for (const Bytes window : windows) {
    memory.clear();
    const Bytes inputs = window.first(window.size() - 1);
    const Matrix logits = model.forward(inputs, memory);
    for (Eigen::Index i = 0; i < logits.rows(); ++i) {
      const double bits = bits_of(logits.row(i), window[std::size_t(i) + 1]);
      total.loss += bits;
      if (2 * i >= logits.rows()) total.late_loss += bits, ++late;
    }
    total.bytes += logits.rows();
    for (const Answer& answer : answers_in(window)) {
      bool right = true;
      for (std::size_t i = answer.first; i < answer.last; ++i) {
        Eigen::Index likeliest = 0;
        logits.row(Eigen::Index(i) - 1).maxCoeff(&likeliest);
        right &= likeliest == window[i];
      }
      ++total.answers;
      total.accuracy += right;
    }
    for (const std::int64_t kept : memory.kept())
      total.kept += double(kept) / double(inputs.size()) / double(model.config().layers);
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  total.tokens_per_second = double(total.bytes) / seconds.count();
  total.loss /= double(total.bytes);
  total.late_loss /= double(late);
  if (total.answers > 0) total.accuracy /= double(total.answers);
  total.kept /= double(windows.size());
  return total;
}

}  // namespace lm
