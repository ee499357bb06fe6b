// SPDX-License-Identifier: MIT
// Trains a language model on a text:
//
//     train --text kjv.txt --out runs/selective --attention selective --tokens 10000000
//
// Exit code 2 for anything wrong with the command line or the files, one line about it on stderr.
#include "lm/train/training.hpp"

#include <csignal>
#include <iostream>

namespace {

std::atomic<bool> stop = false;
static_assert(std::atomic<bool>::is_always_lock_free, "set by a signal");

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGINT, [](int) { stop = true; });
  std::signal(SIGTERM, [](int) { stop = true; });
  return lm::with_train_request(
      argc, argv, [](const lm::TrainRequest& request) { lm::train(request, stop, std::cout); });
}
