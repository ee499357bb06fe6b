# shellcheck shell=sh
# SPDX-License-Identifier: MIT
# What reproduce.sh, tasks.sh and equal_bytes.sh begin with. Goes to the folder that is their first
# argument, where texts and runs are kept, and sets
#
#   $here       examples/lm of the repository
#   $results    results/ there, $models models/, $bench_data bench/data
#   $programs   where train and the others are: build/torch/examples/lm, unless HEED_LM says otherwise
#
# HEED_LM_TRY=1 sees the whole path in minutes: runs of three steps, evaluated on a few windows.
# Their results, models and RESULTS.md stay in the folder, which should be one of their own.

[ $# -ge 1 ] || { echo "$0: which folder?" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
programs=${HEED_LM:-$here/../../build/torch/examples/lm}
[ -x "$programs/evaluate" ] || sh "$here/setup.sh"
programs=$(cd "$programs" && pwd)
mkdir -p "$1"
cd "$1" || exit 2
results=$here/results models=$here/models bench_data=$here/../../bench/data
if [ -n "${HEED_LM_TRY:-}" ]; then
  results=$PWD/results models=$PWD/models bench_data=$PWD/bench_data
  export HEED_LM_RESULTS="$results"
fi
mkdir -p "$results" "$models" "$bench_data"

# unless_try MUCH LITTLE: which of the two it is to be.
unless_try() {
  if [ -n "${HEED_LM_TRY:-}" ]; then echo "$2"; else echo "$1"; fi
}

# train TEXT NAME FLAGS...: makes runs/NAME, goes on with it, or finds it done; what it was, and its
# log, go to results/.
train() {
  text=$1 name=$2
  shift 2
  OMP_NUM_THREADS=1 "$programs/train" --text "$text" --out "runs/$name" --resume "$@"
  cp "runs/$name/log.csv" "$results/$name.training.csv"
  python3 "$here/results.py" "$name" "runs/$name/model.safetensors" \
    "train --text $text --out runs/$name $*"
}

# fresh NAME.WHAT.csv: was it made from runs/NAME as that is now?
fresh() {
  [ -n "$(find "$results/$1" -newer "runs/${1%%.*}/model.safetensors" 2>/dev/null)" ]
}

# evaluate NAME.WHAT.csv CHECKPOINT TEXT FLAGS...: makes it unless it is fresh.
evaluate() {
  table=$1 model=$2 text=$3
  shift 3
  if fresh "$table"; then return; fi
  "$programs/evaluate" --model "$model" --name "${table%%.*}" --text "$text" --csv "$table" "$@"
  mv "$table" "$results/$table"
}
