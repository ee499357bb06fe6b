// SPDX-License-Identifier: MIT
// Writes a checkpoint anew with its numbers in 16 bits, half the size:
//
//     half_precision runs/selective/model.safetensors examples/lm/models/selective.safetensors
//
// float16 rather than bfloat16: weights are of one magnitude, and three bits more are worth having.
#include "lm/checkpoint.hpp"

#include <iostream>

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "half_precision: two files are wanted, the one to read and the one to write"
              << std::endl;
    return 2;
  }
  try {
    lm::write_checkpoint(argv[2], lm::read_checkpoint(argv[1]), lm::Storage::f16);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "half_precision: " << error.what() << std::endl;
    return 2;
  }
}
