#!/bin/sh
# SPDX-License-Identifier: MIT
# Trains the models, evaluates them, and writes examples/lm/RESULTS.md anew.
#
#   sh examples/lm/reproduce.sh FOLDER            all of it; runs that are done are not run again
#   sh examples/lm/reproduce.sh FOLDER NAME...    the runs named, and the tables from all there are
#
# The folder keeps the text and the runs; a run that was stopped goes on. In the repository end up
# models/NAME.safetensors, the checkpoint in 16 bits, which is what is evaluated, and in results/
#
#   NAME.training.csv   a row every 20 steps
#   NAME.budgets.csv    bits a byte by budget and rule of eviction, every layer alike
#   NAME.search.csv     the smallest budgets, layer by layer, at the standard model's unpruned loss
#   NAME.own.csv        and at its own, but for 0.005 bits
#   NAME.forgotten.csv  keys that selection masks, by layer and position
#
# HEED_LM=FOLDER is where the programs are, build/torch/examples/lm unless said otherwise.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { echo "reproduce.sh: which folder?" >&2; exit 2; }
folder=$1
shift
programs=${HEED_LM:-$here/../../build/torch/examples/lm}
[ -x "$programs/train" ] || sh "$here/setup.sh"
mkdir -p "$folder" "$here/models" "$here/results"
[ -s "$folder/kjv.txt" ] || sh "$here/text.sh" kjv >"$folder/kjv.txt"

all="standard selective selective_memory ssa spans"
flags_of() {
  case $1 in
    standard) echo --attention standard ;;
    selective) echo --attention selective ;;
    selective_memory) echo --attention selective --memory-loss 0.01 ;;
    ssa) echo --attention ssa --ssa-token --ssa-value --ssa-shared ;;
    spans) echo --attention spans --full-layers 3 --block 64 ;;
    *) echo "reproduce.sh: no run is called $1; there are $all" >&2; exit 2 ;;
  esac
}
[ $# -gt 0 ] || set -- $all

for name in "$@"; do
  flags=$(flags_of "$name")
  # shellcheck disable=SC2086  # a list of words
  OMP_NUM_THREADS=1 "$programs/train" --text "$folder/kjv.txt" --out "$folder/runs/$name" --resume \
    --tokens 6000000 --seed 1 $flags
  model=$here/models/$name.safetensors
  "$programs/half_precision" "$folder/runs/$name/model.safetensors" "$model"
  cp "$folder/runs/$name/log.csv" "$here/results/$name.training.csv"
  "$programs/evaluate" --model "$model" --name "$name" --text "$folder/kjv.txt" \
    --budgets 4,8,16,32,64,128,256,all --windows 64 --csv "$here/results/$name.budgets.csv"
  "$programs/evaluate" --model "$model" --name "$name" --text "$folder/kjv.txt" \
    --reference "$here/models/standard.safetensors" --windows 64 \
    --csv "$here/results/$name.search.csv"
  "$programs/evaluate" --model "$model" --name "$name" --text "$folder/kjv.txt" \
    --reference "$model" --slack 0.005 --windows 64 --csv "$here/results/$name.own.csv"
  case $name in selective*)
    "$programs/activations" --model "$model" --text "$folder/kjv.txt" \
      --csv "$here/results/$name.forgotten.csv" ;;
  esac
done
python3 "$here/results.py"
