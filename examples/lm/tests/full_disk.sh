#!/bin/sh
# SPDX-License-Identifier: MIT
# Where a file cannot be written to its end, the programs fail, say which, leave what was there as it
# was, and nothing half done beside it. A limit on the size of files stands for the full disk.
#
#   full_disk.sh PROGRAMS MODEL TEXT
#
# PROGRAMS is the folder of activations, evaluate and half_precision. The paths are absolute.
set -eu
programs=$1 model=$2 text=$3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/out"
cd "$folder/out"

# limited BLOCKS COMMAND...: must end with 2; files end at BLOCKS · 512 bytes.
limited() {
  blocks=$1
  shift
  code=0
  (trap '' XFSZ && ulimit -f "$blocks" && exec "$@") >/dev/null 2>../errors || code=$?
  if [ $code -ne 2 ] || ! grep -q "it cannot be written" ../errors; then
    echo "full_disk.sh: $* ended with $code and said: $(cat ../errors)" >&2
    exit 1
  fi
}
# holds FILES...: what lies in the folder.
holds() {
  found=$(ls -A | tr '\n' ' ')
  [ "$found" = "$*${1:+ }" ] || { echo "full_disk.sh: the folder holds $found, not $*" >&2; exit 1; }
}

# Not even the first array fits.
limited 100 "$programs/activations" --model "$model" --text "$text" --windows 1 --context 256 \
  --npy . --csv table.csv
holds
limited 1 "$programs/activations" --model "$model" --text "$text" --windows 1 --context 256 \
  --csv table.csv --every 2
holds
limited 100 "$programs/half_precision" "$model" half
holds

echo before >half
limited 100 "$programs/half_precision" "$model" half
holds half
[ "$(cat half)" = before ]
rm half

# A table that grows keeps its whole rows.
limited 1 "$programs/evaluate" --model "$model" --text "$text" --windows 1 --search-windows 1 \
  --name m --context 64 --budgets 4,5,6,7,8,9,10,11,12,13 --evict oldest --csv table.csv
holds table.csv
[ "$(tail -c 1 table.csv | od -An -c | tr -d ' ')" = '\n' ]
[ "$(wc -l <table.csv)" -ge 3 ]
