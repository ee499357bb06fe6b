#!/bin/sh
# SPDX-License-Identifier: MIT
# From a bare Debian to what forgetting buys a server: sets up what is missing, builds the program
# `serve`, and runs it. Requests for a small language model arrive at random and are batched as they
# come and go, in the same memory with all tokens kept and on budgets. Arguments go to `serve`.
set -eu

cd "$(dirname "$0")/.."
# shellcheck source=examples/programs/build.sh
. examples/programs/build.sh
build serve serve
build/release/examples/serve --page build/release/examples/serving.html "$@"
