# shellcheck shell=sh
# SPDX-License-Identifier: MIT
# For scripts in the folder of the project to source.
#
# build NAME TARGET...: from a bare Debian to programs in build/release/examples. Sets up what is
# missing, and builds. The compiler's talk goes to build/NAME.log, and is shown only if it fails.
build() {
  sh cmake/setup.sh g++ cmake ninja-build pkg-config libeigen3-dev libxsimd-dev libgtest-dev \
    libbenchmark-dev libcli11-dev libstb-dev nlohmann-json3-dev || exit 1
  name=$1 log=build/$1.log
  shift
  mkdir -p build
  if ! { cmake --preset release -Wno-dev && cmake --build --preset release --target "$@"; } \
    >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    echo "$name: the build failed; $log has all of it" >&2
    exit 1
  fi
}
