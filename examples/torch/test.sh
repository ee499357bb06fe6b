#!/bin/sh
# SPDX-License-Identifier: MIT
# The operators of PyTorch, from a bare Debian: sets up what is missing, builds libheed_torch.so and
# runs its tests, those in C++ and those in Python.
#
#   sh examples/torch/test.sh             the tests
#   sh examples/torch/test.sh compare     and then the comparison, on one thread and on all
#
# CXX names another g++. HEED_WERROR=1 makes a warning an error. HEED_SKIP_SETUP=1 installs nothing;
# HEED_PYTHON then names the Python whose torch it is, CMAKE_PREFIX_PATH where LibTorch is.
set -eu

cd "$(dirname "$0")/../.."
# OpenBLAS by name: the reference BLAS, which would do, is 15 times slower. CLI11, stb and JSON are
# what the other examples want to be configured.
sh cmake/setup.sh g++ cmake ninja-build pkg-config libeigen3-dev libxsimd-dev libgtest-dev \
  libcli11-dev libstb-dev nlohmann-json3-dev libtorch-dev python3-torch libopenblas0-pthread

options=
[ "${HEED_WERROR:-0}" = 1 ] && options="$options -DCMAKE_COMPILE_WARNING_AS_ERROR=ON"
[ -n "${HEED_PYTHON:-}" ] && options="$options -DHEED_PYTHON=$HEED_PYTHON"
command -v ccache >/dev/null && options="$options -DCMAKE_CXX_COMPILER_LAUNCHER=ccache"

# shellcheck disable=SC2086  # a list of words
cmake -S . -B build/torch -G Ninja -Wno-dev -DCMAKE_BUILD_TYPE=Release -DHEED_MARCH=native \
  -DHEED_BUILD_TORCH=ON -DHEED_BUILD_TESTS=ON -DHEED_TEST_PACKAGE=OFF $options
cmake --build build/torch --target heed_torch torch.attention_test torch.lm_test compare_torch
ctest --test-dir build/torch -L torch --output-on-failure --no-tests=error

if [ "${1:-}" = compare ]; then
  for threads in 1 "$(nproc)"; do
    echo
    build/torch/examples/torch/compare_torch --threads "$threads"
  done
fi
