#!/bin/sh
# SPDX-License-Identifier: MIT
# Prints the README's table of speeds, in Markdown: what every variant takes, beside plain causal
# attention in the same program.
#
#   sh bench/table.sh [BUILD [TOKENS...]]
#
# BUILD is where CMake built the benchmarks (build/release), TOKENS the lengths (512 1024 2048
# 4096). Five rounds, the variants of a round in random order; every row is the best of its five.
set -eu

build=${1:-build/release}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- 512 1024 2048 4096
for name in selective stage window; do
  [ -x "$build/bench/score.${name}_bench" ] || {
    echo "table.sh: no $build/bench/score.${name}_bench; build it: cmake --preset release && cmake" \
      "--build --preset release --target score.selective_bench score.stage_bench score.window_bench" >&2
    exit 1
  }
done
filter="/N:($(printf '|%s' "$@" | cut -c2-))\$"

echo "| variant | tokens | ms | GFLOP/s | share of peak | time over causal |"
echo "|---|--:|--:|--:|--:|--:|"
for name in selective stage window; do
  program=$build/bench/score.${name}_bench
  {
    "$program" --benchmark_list_tests --benchmark_filter="$filter"
    "$program" --benchmark_filter="$filter" --benchmark_min_time=0.05 --benchmark_repetitions=5 \
      --benchmark_enable_random_interleaving=true --benchmark_report_aggregates_only=true \
      --benchmark_format=csv 2>/dev/null
  } | awk -F, -v name="$name" '
    !heading && $1 != "name" { row[++rows] = $1; next }
    # The heading: name,iterations,real_time,cpu_time,… and the counters.
    $1 == "name" { for (i = 1; i <= NF; i++) { gsub(/"/, "", $i); column[$i] = i } heading = 1 }
    { gsub(/"/, "", $1) }
    sub(/_min$/, "", $1) { time[$1] = $column["cpu_time"] }
    sub(/_max$/, "", $1) { rate[$1] = $column["FLOP/s"]; share[$1] = $column["peak%"] }
    END {
      for (i = 1; i <= rows; i++) {
        split(row[i], part, "/N:")
        if (part[1] == "Causal" && name != "selective") continue  # once is enough
        plain = (part[1] ~ /Double/ ? "CausalDouble" : "Causal") "/N:" part[2]
        printf "| %s | %d | %.2f | %.1f | %.0f %% | %.2f |\n", part[1], part[2], time[row[i]],
               rate[row[i]] * 1e-9, share[row[i]], time[row[i]] / time[plain]
      }
    }'
done
