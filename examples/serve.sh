#!/bin/sh
# SPDX-License-Identifier: MIT
# From a bare Debian to what forgetting buys a server: sets up what is missing, builds the program
# `serve`, and runs it. Requests for a small language model arrive at random and are batched as they
# come and go, in the same memory with all tokens kept and on budgets. Arguments go to `serve`.
set -eu

cd "$(dirname "$0")/.."
sh cmake/setup.sh g++ cmake ninja-build pkg-config libeigen3-dev libxsimd-dev libgtest-dev \
  libbenchmark-dev libcli11-dev libstb-dev nlohmann-json3-dev

# The compiler's talk is of no interest unless it fails.
log=build/serve.log
mkdir -p build
if ! { cmake --preset release -Wno-dev && cmake --build --preset release --target serve; } \
  >$log 2>&1; then
  tail -n 40 $log >&2
  echo "serve.sh: the build failed; $log has all of it" >&2
  exit 1
fi
build/release/examples/serve --page build/release/examples/serving.html "$@"
