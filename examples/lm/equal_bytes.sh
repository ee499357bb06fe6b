#!/bin/sh
# SPDX-License-Identifier: MIT
# The rules of eviction at equal bytes of memory: what the models in models/ lose on held-out text,
# and how many needles they find. Pages hold 32 tokens, and all budgets are whole pages.
#
#   sh examples/lm/equal_bytes.sh FOLDER    texts are kept in the folder
#
# Needs no LibTorch, and takes some minutes. Leaves in results/
#
#   NAME.bytes.csv   every rule as it is
#   NAME.apart.csv   the same where each head chooses its own tokens, of models that do not select
#   NAME.recent.csv  key_difference with half of the budget for the newest tokens
#
# and writes RESULTS.md anew. What was measured in a run of reproduce.sh or tasks.sh is of its model.
set -eu
if [ -z "${HEED_LM:-}" ]; then
  (cd "$(dirname "$0")/../.." && . examples/programs/build.sh && build equal_bytes evaluate riddles)
  HEED_LM=$(dirname "$0")/../../build/release/examples/lm
fi
# shellcheck source=examples/lm/programs.sh
. "$(dirname "$0")/programs.sh"

# compare NAME TEXT WINDOWS BUDGETS
compare() {
  name=$1 budgets=$4
  set -- "$models/$name.safetensors" "$2" --windows "$3" --sinks 4 --budgets
  evaluate "$name.bytes.csv" "$@" "$budgets,all" \
    --evict most_masked,heavy_hitters,oldest,least_attended_last,snap,key_difference
  evaluate "$name.recent.csv" "$@" "$budgets" --evict key_difference --recent 0.5
  case $name in *standard)
    evaluate "$name.apart.csv" "$@" "$budgets" --heads apart \
      --evict heavy_hitters,least_attended_last,snap,key_difference ;;
  esac
}

[ -s kjv.txt ] || sh "$here/text.sh" kjv >kjv.txt
[ -s needle.txt ] || "$programs/riddles" needle 4000000 >needle.txt
for name in standard selective needle_standard needle_selective selective_tuned; do
  [ -s "$models/$name.safetensors" ] || continue
  case $name in
    needle_*) compare $name needle.txt "$(unless_try 128 8)" 32,64 ;;
    *) compare $name kjv.txt "$(unless_try 32 2)" 32,64,128 ;;
  esac
done
python3 "$here/results.py"
