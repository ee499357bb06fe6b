// SPDX-License-Identifier: MIT
#include "lm/train/log.hpp"

#include "lm/safetensors.hpp"

#include <cstdlib>
#include <fstream>
#include <string>
#include <utility>

namespace lm {
namespace {

constexpr const char* columns =
    "step,tokens,seconds,loss,validation_loss,memory,gradient,rate,tokens_per_second\n";

}  // namespace

TrainingLog::TrainingLog(std::filesystem::path path, std::int64_t step) : path_(std::move(path)) {
  std::string kept = columns;
  if (std::ifstream before(path_); step > 0 && before) {
    std::string line;
    std::getline(before, line);
    while (std::getline(before, line))
      if (std::atoll(line.c_str()) <= step) kept += line + '\n';
  }
  std::ofstream file(path_);
  file << kept << std::flush;
  if (!file) throw FileError(path_.string() + ": it cannot be written");
}

void TrainingLog::add(const LogRow& row) const {
  std::ofstream file(path_, std::ios::app);
  file << row.step << ',' << row.tokens << ',' << row.seconds << ',' << row.loss << ',';
  if (row.validation_loss) file << *row.validation_loss;
  file << ',';
  if (row.memory) file << *row.memory;
  file << ',' << row.gradient << ',' << row.rate << ',' << row.tokens_per_second << '\n'
       << std::flush;
  if (!file) throw FileError(path_.string() + ": it cannot be written");
}

}  // namespace lm
