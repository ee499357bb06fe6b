#!/bin/sh
# SPDX-License-Identifier: MIT
# From a bare Debian to the demonstration: sets up what is missing, builds the programs `attend`,
# `demo` and `story`, and runs the latter two: attention on Genesis 1:1–13, and a language model
# that forgets. Arguments go to `demo`.
set -eu

cd "$(dirname "$0")/.."
sh cmake/setup.sh g++ cmake ninja-build pkg-config libeigen3-dev libxsimd-dev libgtest-dev \
  libbenchmark-dev libcli11-dev libstb-dev nlohmann-json3-dev

# The compiler's talk is of no interest unless it fails.
log=build/demo.log
mkdir -p build
if ! { cmake --preset release -Wno-dev && cmake --build --preset release --target attend demo story; } \
  >$log 2>&1; then
  tail -n 40 $log >&2
  echo "demo.sh: the build failed; $log has all of it" >&2
  exit 1
fi
build/release/examples/demo "$@"
echo
echo "A language model on a text it never saw, all of it in memory and on a budget"
echo
build/release/examples/lm/story --page build/release/examples/forgetting.html
