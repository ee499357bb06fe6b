// SPDX-License-Identifier: MIT
/// @file
/// A run of training, from the first step or from where one stopped.
#pragma once

#include "lm/train/request.hpp"

#include <atomic>
#include <iosfwd>

namespace lm {

/// Trains as asked. The folder then holds
///
///     model.safetensors   the weights, as lm::read_checkpoint reads them
///     state.safetensors   the same with AdamW's moments and the step
///     log.csv             a LogRow every so many steps
///
/// and a run that was stopped and resumed ends with the same weights, bit for bit, as one that was
/// not.
///
/// @param stop  set by a signal: the state is saved, and the run ends.
/// @throws FileError, ConfigError
void train(const TrainRequest& request, const std::atomic<bool>& stop, std::ostream& out);

}  // namespace lm
