#!/bin/sh
# SPDX-License-Identifier: MIT
# heed beside what one would use in its place, from a bare Debian: sets up what is missing, builds
# for this machine, measures, prints tables, and draws them.
#
#   sh bench/compare.sh [OPTIONS]      those of the program, see --help: --threads 2, say
#
# Leaves figures.json, forgetting.json and the pictures, .svg and .png, in build/compare. About ten
# minutes, of which nothing else should use much of the machine.
# CXX names another g++. HEED_SKIP_SETUP=1 installs nothing, and a rival that is missing is left out;
# CMAKE_PREFIX_PATH then says where others are, HEED_PYTHON which Python has matplotlib.
set -eu

cd "$(dirname "$0")/.."
sh cmake/setup.sh g++ cmake ninja-build pkg-config libeigen3-dev libxsimd-dev libbenchmark-dev \
  libcli11-dev nlohmann-json3-dev libopenblas-dev libdnnl-dev libtorch-dev python3-matplotlib

build=build/compare
mkdir -p $build
launcher=
command -v ccache >/dev/null && launcher=-DCMAKE_CXX_COMPILER_LAUNCHER=ccache
# shellcheck disable=SC2086  # one word or none
cmake -S . -B $build -G Ninja -Wno-dev -DCMAKE_BUILD_TYPE=Release -DHEED_MARCH=native \
  -DHEED_BUILD_BENCH=ON -DHEED_BUILD_COMPARE=ON -DHEED_BUILD_TESTS=OFF -DHEED_BUILD_EXAMPLES=OFF \
  $launcher >$build/configure.log 2>&1 || { cat $build/configure.log >&2; exit 1; }
cmake --build $build --target compare score.forgetting_bench
$build/bench/compare/compare --json $build/figures.json "$@"
$build/bench/score.forgetting_bench --benchmark_repetitions=5 --benchmark_min_time=0.05 \
  --benchmark_enable_random_interleaving=true --benchmark_report_aggregates_only=true \
  --benchmark_out=$build/forgetting.json --benchmark_out_format=json >/dev/null
"${HEED_PYTHON:-/usr/bin/python3}" bench/plot.py --out $build --forgetting $build/forgetting.json \
  $build/figures.json
