#!/bin/sh
# SPDX-License-Identifier: MIT
# Riddles (lm/tasks.hpp): a small model a task and kind of attention, trained and evaluated with all
# in memory and on budgets.
#
#   sh examples/lm/tasks.sh FOLDER           all of them; those that are done are not run again
#   sh examples/lm/tasks.sh FOLDER TASK...   some
#
# Leaves results/TASK_ATTENTION.task.csv; results.py writes RESULTS.md from them.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { echo "tasks.sh: which folder?" >&2; exit 2; }
folder=$1
shift
programs=${HEED_LM:-$here/../../build/torch/examples/lm}
[ -x "$programs/train" ] || sh "$here/setup.sh"
mkdir -p "$folder" "$here/results"
[ $# -gt 0 ] || set -- assignment copying parity needle

for task in "$@"; do
  text=$folder/$task.txt
  [ -s "$text" ] || "$programs/riddles" "$task" 4000000 >"$text"
  for attention in standard selective; do
    name=${task}_$attention
    OMP_NUM_THREADS=1 "$programs/train" --text "$text" --out "$folder/runs/$name" --resume \
      --attention "$attention" --layers 2 --heads 4 --dim 64 --head-dim 16 --hidden 176 \
      --context 256 --batch 8 --tokens 3000000 --seed 1
    "$programs/evaluate" --model "$folder/runs/$name/model.safetensors" --name "$task" \
      --text "$text" --windows 64 --budgets 8,16,32,64,all --csv "$here/results/$name.task.csv"
  done
done
python3 "$here/results.py"
