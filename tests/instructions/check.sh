#!/bin/sh
# SPDX-License-Identifier: MIT
# Counts the instructions of each piece of work that recorded.tsv names, under valgrind, and holds
# them against what is recorded there:
#
#   sh check.sh PROGRAM COMPILER      COMPILER as CMake names it, with its major version: GNU-12
#   sh check.sh PROGRAM COMPILER --record     prints the lines of recorded.tsv in place of judging
#
# Instructions and not seconds: the same on a busy machine. Exit code 77: they cannot be counted here.
set -eu

program=$1 compiler=$2 recorded=$(dirname "$0")/recorded.tsv

command -v valgrind >/dev/null || {
  echo "instructions: skipped, valgrind is missing"
  exit 77
}
grep -qw avx2 /proc/cpuinfo && grep -qw fma /proc/cpuinfo || {
  echo "instructions: skipped, this processor has no AVX2"
  exit 77
}

# "causal 5332992 883 9542129": the work, pairs × dim, tiles, instructions.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
count() {
  line=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect=measured \
         --log-file="$log" "$program" "$1") || { cat "$log" >&2; exit 1; }
  echo "$line $(sed -n 's/.*Collected : //p' "$log")"
}

grep -v '^#' "$recorded" | cut -f1 | sort -u | while read -r work; do count "$work"; done |
if [ "${3:-}" = --record ]; then
  awk -v compiler="$compiler" -v OFS='\t' '{ print $1, compiler, $2, $3, sprintf("%.3f", $4 / $2) }'
else
  awk -v compiler="$compiler" -v recorded="$recorded" -f "$(dirname "$0")/judge.awk"
fi
