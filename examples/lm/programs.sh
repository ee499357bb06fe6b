# shellcheck shell=sh
# SPDX-License-Identifier: MIT
# What reproduce.sh and tasks.sh begin with. Goes to the folder that is their first argument, where
# texts and runs are kept, and sets
#
#   $here       examples/lm of the repository
#   $results    results/ there
#   $programs   where train and the others are: build/torch/examples/lm, unless HEED_LM says otherwise

[ $# -ge 1 ] || { echo "$0: which folder?" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
results=$here/results
programs=${HEED_LM:-$here/../../build/torch/examples/lm}
[ -x "$programs/train" ] || sh "$here/setup.sh"
programs=$(cd "$programs" && pwd)
mkdir -p "$1" "$here/models" "$results"
cd "$1" || exit 2

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
