#!/bin/sh
# SPDX-License-Identifier: MIT
# From a bare Debian to the programs of the language model, in build/torch/examples/lm: installs
# what is missing, LibTorch included, and builds train, generate and evaluate.
#
#   sh examples/lm/setup.sh
#
# HEED_SKIP_SETUP=1 installs nothing. HEED_JOBS=N compiles N files at once.
set -eu

cd "$(dirname "$0")/../.."
# nlohmann-json3-dev reads the headers of checkpoints, bible-kjv prints the text. OpenBLAS by name:
# the reference BLAS is 15 times slower.
sh cmake/setup.sh g++ cmake ninja-build pkg-config libeigen3-dev libxsimd-dev libgtest-dev \
  libcli11-dev libstb-dev nlohmann-json3-dev libtorch-dev libopenblas0-pthread bible-kjv \
  bible-kjv-text

launcher=
command -v ccache >/dev/null && launcher=-DCMAKE_CXX_COMPILER_LAUNCHER=ccache
# shellcheck disable=SC2086  # a word or none
cmake -S . -B build/torch -G Ninja -Wno-dev -DCMAKE_BUILD_TYPE=Release -DHEED_MARCH=native \
  -DHEED_BUILD_TORCH=ON -DHEED_BUILD_TESTS=ON -DHEED_TEST_PACKAGE=OFF $launcher
cmake --build build/torch --parallel "${HEED_JOBS:-1}" \
  --target train generate evaluate half_precision activations story riddles
