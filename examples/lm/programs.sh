# SPDX-License-Identifier: MIT
# What reproduce.sh and tasks.sh begin with. From their first argument, and HEED_LM, the folder of the
# programs, build/torch/examples/lm unless said otherwise:
#
#   $folder      that first argument, where texts and runs are kept
#   $results     results/ of the repository
#   train, fresh, evaluate

[ $# -ge 1 ] || { echo "$0: which folder?" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
results=$here/results
programs=$(cd "${HEED_LM:-$here/../../build/torch/examples/lm}" 2>/dev/null && pwd) || programs=
if ! [ -x "$programs/train" ]; then
  sh "$here/setup.sh"
  programs=$here/../../build/torch/examples/lm
fi
mkdir -p "$1" "$here/models" "$results"
folder=$(cd "$1" && pwd)
cd "$folder"

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
  [ "$results/$1" -nt "runs/${1%%.*}/model.safetensors" ]
}

# evaluate NAME.WHAT.csv TEXT FLAGS...: makes it of the checkpoint $model unless it is fresh.
evaluate() {
  table=$1 text=$2
  shift 2
  if fresh "$table"; then return; fi
  "$programs/evaluate" --model "$model" --name "${table%%.*}" --text "$text" --csv "$table" "$@"
  mv "$table" "$results/$table"
}
