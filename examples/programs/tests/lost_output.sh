#!/bin/sh
# SPDX-License-Identifier: MIT
# A program whose output is lost must say so and fail:
#
#   lost_output.sh PROGRAM ARGUMENTS...
#
# Exit code 77: there is no full device here to print to.
set -u
[ -c /dev/full ] || exit 77
errors=$("$@" 2>&1 >/dev/full)
code=$?
lines=$(printf '%s\n' "$errors" | grep -c "standard output cannot be written")
if [ $code -eq 0 ] || [ "$lines" -ne 1 ]; then
  echo "lost_output.sh: $* ended with $code and said: $errors" >&2
  exit 1
fi
