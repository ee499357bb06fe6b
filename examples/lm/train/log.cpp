// SPDX-License-Identifier: MIT
#include "lm/train/log.hpp"

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>

namespace lm {
namespace {

constexpr const char* columns =
    "step,tokens,seconds,loss,validation_loss,memory,gradient,rate,tokens_per_second\n";

/// The file's rows up to a step, of which the last is left out unless it is whole.
std::string rows_up_to(std::int64_t step, const std::filesystem::path& path) {
  std::string kept = columns, line;
  if (step == 0) return kept;
  std::ifstream before(path);
  std::getline(before, line);
  while (std::getline(before, line) && !before.eof())
    if (std::atoll(line.c_str()) <= step) kept += line + '\n';
  return kept;
}

}  // namespace

TrainingLog::TrainingLog(const std::filesystem::path& path, std::int64_t step)
    : file_(path, rows_up_to(step, path)) {}

void TrainingLog::add(const LogRow& row) const {
  std::ostringstream line;
  line << row.step << ',' << row.tokens << ',' << row.seconds << ',' << row.loss << ',';
  if (row.validation_loss) line << *row.validation_loss;
  line << ',';
  if (row.memory) line << *row.memory;
  line << ',' << row.gradient << ',' << row.rate << ',' << row.tokens_per_second << '\n';
  file_.add(line.str());
}

}  // namespace lm
