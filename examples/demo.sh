#!/bin/sh
# SPDX-License-Identifier: MIT
# From a bare Debian to the demonstration: sets up what is missing, builds the programs `attend`,
# `demo` and `story`, and runs the latter two: attention on Genesis 1:1–13, and a language model
# that forgets. Arguments go to `demo`.
set -eu

cd "$(dirname "$0")/.."
# shellcheck source=examples/programs/build.sh
. examples/programs/build.sh
build demo attend demo story
build/release/examples/demo "$@"
echo
echo "A language model on a text it never saw, all of it in memory and on a budget"
echo
build/release/examples/lm/story --page build/release/examples/forgetting.html
