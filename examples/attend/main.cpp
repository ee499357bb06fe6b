// SPDX-License-Identifier: MIT
// Attention over .npy files, any mixture of the library's variants:
//
//     attend --q q.npy --k k.npy --v v.npy --causal --selective --budget 64 --out out.npy --stats
//
// Exit code 2 for anything wrong with the command line or the files, one line about it on stderr,
// and then no output file.
#include "attend/program.hpp"
#include "programs/output.hpp"

#include <iostream>

int main(int argc, char** argv) {
  return programs::ended("attend", attend::program(argc, argv, std::cout, std::cerr));
}
