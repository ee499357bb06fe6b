#!/bin/sh
# SPDX-License-Identifier: MIT
# Riddles (lm/tasks.hpp): a small model a task and kind of attention, trained and evaluated with all
# in memory and on budgets.
#
#   sh examples/lm/tasks.sh FOLDER           all of them; what is done is not done again
#   sh examples/lm/tasks.sh FOLDER TASK...   some
#
# Leaves TASK_ATTENTION.run.json, .training.csv and .task.csv in results/, and the models that find
# needles in models/; results.py writes RESULTS.md from them.
set -eu
# shellcheck source=examples/lm/programs.sh
. "$(dirname "$0")/programs.sh"
shift
[ $# -gt 0 ] || set -- assignment copying parity needle

for task in "$@"; do
  [ -s "$task.txt" ] || "$programs/riddles" "$task" 4000000 >"$task.txt"
  for attention in standard selective; do
    name=${task}_$attention
    train "$task.txt" "$name" --answers-only --attention "$attention" --layers 2 --heads 4 --dim 64 \
      --head-dim 16 --hidden 176 --context 256 --batch 8 --tokens "$(unless_try 3000000 6000)"
    [ "$task" != needle ] ||
      "$programs/half_precision" "runs/$name/model.safetensors" "$models/$name.safetensors"
    evaluate "$name.task.csv" "runs/$name/model.safetensors" "$task.txt" --windows "$(unless_try 256 8)" \
      --budgets 8,16,32,64,all
  done
done
python3 "$here/results.py"
