// SPDX-License-Identifier: MIT
// Writes a checkpoint anew with its numbers in 16 bits, half the size:
//
//     half_precision runs/selective/model.safetensors examples/lm/models/selective.safetensors
//
// float16 rather than bfloat16: weights are of one magnitude, and three bits more are worth having.
#include "lm/checkpoint.hpp"
#include "programs/command_line.hpp"

int main(int argc, char** argv) {
  std::filesystem::path from, to;
  programs::CommandLine line("half_precision", "Writes a checkpoint anew with numbers of 16 bits.");
  line.file("from", from, "The checkpoint to read")->required();
  line.file("to", to, "The file to write")->required();
  return line.run(argc, argv,
                  [&] { lm::write_checkpoint(to, lm::read_checkpoint(from), lm::Storage::f16); });
}
