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

namespace {

/// The logits of a window, read as score() says.
Matrix read(const Model& model, const Forgetting& forgetting, Bytes inputs, Memory& memory) {
  const std::size_t prompt = inputs.size() / 2;
  if (!forgetting.forgets() || !forgetting.evict.uses_window() || prompt == 0)
    return model.forward(inputs, memory);
  Matrix logits(Eigen::Index(inputs.size()), Config::vocabulary);
  logits.topRows(Eigen::Index(prompt)) = model.forward(inputs.first(prompt), memory);
  for (std::size_t i = prompt; i < inputs.size(); ++i)
    logits.row(Eigen::Index(i)) = model.forward(inputs.subspan(i, 1), memory);
  return logits;
}

}  // namespace

Score score(const Model& model, const Forgetting& forgetting, std::span<const Bytes> windows) {
  Memory memory(model.config(), forgetting);
  Score total;
  std::int64_t late = 0;
  const auto start = std::chrono::steady_clock::now();
  for (const Bytes window : windows) {
    memory.clear();
    const Bytes inputs = window.first(window.size() - 1);
    const Matrix logits = read(model, forgetting, inputs, memory);
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
      if (2 * answer.first <= inputs.size()) continue;
      ++total.late_answers;
      total.late_accuracy += right;
    }
    total.memory_bytes += memory.bytes();
    for (const std::int64_t kept : memory.kept())
      total.kept += double(kept) / double(inputs.size()) / double(model.config().layers);
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  total.tokens_per_second = double(total.bytes) / seconds.count();
  total.loss /= double(total.bytes);
  total.late_loss /= double(late);
  if (total.answers > 0) total.accuracy /= double(total.answers);
  if (total.late_answers > 0) total.late_accuracy /= double(total.late_answers);
  total.memory_bytes /= windows.size();
  total.most_memory_bytes = memory.most_bytes();
  total.kept /= double(windows.size());
  return total;
}

}  // namespace lm
