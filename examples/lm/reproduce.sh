#!/bin/sh
# SPDX-License-Identifier: MIT
# Trains the models, evaluates them, and writes examples/lm/RESULTS.md anew; tasks.sh does so for the
# synthetic tasks.
#
#   sh examples/lm/reproduce.sh FOLDER            all of it; what is done is not done again
#   sh examples/lm/reproduce.sh FOLDER NAME...    the runs named, and the tables from all there are
#   HEED_LM_TRY=1 sh examples/lm/reproduce.sh FOLDER
#                                                 the whole path in minutes, see programs.sh
#
# The folder keeps the text and the runs; a run that was stopped goes on. In the repository end up
# models/, of standard, selective and selective_tuned, checkpoints in 16 bits, and in results/
#
#   NAME.run.json       how it was trained, and how large it is
#   NAME.training.csv   a row every 20 steps
#   NAME.budgets.csv    bits a byte by budget and rule of eviction, every layer alike
#   NAME.search.csv     the smallest budgets, layer by layer, at the standard model's unpruned loss
#   NAME.own.csv        and at its own, but for 0.005 bits, of those of context 512
#   NAME.forgotten.csv  keys that selection masks, by layer and position
#   NAME.bytes.csv      rules at equal bytes, and others that equal_bytes.sh lists
#   spans.times.csv     attention.layer_plan_bench on the spans used here, where it has been built
#
# and in bench/data what the benchmark of forgetting reads.
set -eu
# shellcheck source=examples/lm/programs.sh
. "$(dirname "$0")/programs.sh"
shift

# A run a line, its flags behind it. Those named short_… are compared at equal tokens; NAME_1024 and
# NAME_2048 go on from NAME at a longer context, and so come after it, and selective_tuned from
# selective with L_mem.
runs() {
  cat <<'END'
standard --attention standard --tokens 6000000
selective --attention selective --tokens 6000000
selective_memory --attention selective --memory-loss 0.01 --tokens 6000000
selective_tuned --attention selective --memory-loss 0.01
short_standard_1 --attention standard --tokens 1500000
short_standard_2 --attention standard --tokens 1500000 --seed 2
short_standard_3 --attention standard --tokens 1500000 --seed 3
short_selective_1 --attention selective --tokens 1500000
short_selective_2 --attention selective --tokens 1500000 --seed 2
short_selective_3 --attention selective --tokens 1500000 --seed 3
short_selective_memory_1 --attention selective --memory-loss 0.01 --tokens 1500000
short_selective_memory_tenth_1 --attention selective --memory-loss 0.1 --tokens 1500000
short_ssa_1 --attention ssa --ssa-token --ssa-value --ssa-shared --tokens 1500000
short_ssa_position_1 --attention ssa --tokens 1500000
short_selective_ssa_1 --attention selective+ssa --ssa-token --ssa-value --ssa-shared --tokens 1500000
short_ssa_2 --attention ssa --ssa-token --ssa-value --ssa-shared --tokens 1500000 --seed 2
short_spans_1 --attention spans --full-layers 3 --block 64 --tokens 1500000
short_spans_2 --attention spans --full-layers 3 --block 64 --tokens 1500000 --seed 2
short_selective_spans_1 --attention selective+spans --full-layers 3 --block 64 --tokens 1500000
short_standard_layers8_1 --attention standard --layers 8 --tokens 1500000
short_spans_layers8_1 --attention spans --layers 8 --full-layers 7 --block 64 --tokens 1500000
short_standard_heads2_1 --attention standard --heads 2 --tokens 1500000
short_standard_heads8_1 --attention standard --heads 8 --tokens 1500000
short_selective_heads2_1 --attention selective --heads 2 --tokens 1500000
short_selective_heads8_1 --attention selective --heads 8 --tokens 1500000
standard_1024 --attention standard --context 1024 --batch 4
selective_1024 --attention selective --context 1024 --batch 4
selective_memory_1024 --attention selective --memory-loss 0.01 --context 1024 --batch 4
standard_2048 --attention standard --context 2048 --batch 2
selective_2048 --attention selective --context 2048 --batch 2
selective_memory_2048 --attention selective --memory-loss 0.01 --context 2048 --batch 2
END
}
flags_of() {
  flags=$(runs | sed -n "s/^$1 //p")
  [ -n "$flags" ] || { echo "reproduce.sh: no run is called $1; there are $(names)" >&2; exit 2; }
  case $1 in
    *_1024 | *_2048 | *_tuned)
      flags="$flags --from runs/${1%_*}/model.safetensors --rate 1e-3 --warm-up 20 --tokens 600000" ;;
  esac
  unless_try "$flags" "$(echo "$flags" | sed 's/--tokens [0-9]*/--tokens 12000/')"
}
names() { runs | cut -d ' ' -f 1 | tr '\n' ' '; }

# At most so many windows of either part: as many bytes whatever the context.
windows_of() {
  case $1 in *_1024) unless_try 32 2 ;; *_2048) unless_try 16 2 ;; *) unless_try 64 2 ;; esac
}

[ -s kjv.txt ] || sh "$here/text.sh" kjv >kjv.txt
# shellcheck disable=SC2046  # a list of words
[ $# -gt 0 ] || set -- $(names)
for name in "$@"; do
  flags=$(flags_of "$name")
  # shellcheck disable=SC2086  # a list of words
  train kjv.txt "$name" $flags
  case $name in
    standard | selective | selective_tuned) model=$models/$name.safetensors ;;
    *) model=runs/$name/half.safetensors ;;
  esac
  "$programs/half_precision" "runs/$name/model.safetensors" "$model"
  wanted=$(windows_of "$name") most=$(unless_try 96 8) budgets=4,8,16,32,64,128,256,all
  case $name in
    short_selective_? | short_selective_memory*) budgets=4,8,16,32,all searches= ;;
    short_*) budgets=16,all searches= ;;
    standard) searches=own ;;
    selective_tuned) searches= ;;
    standard_*) searches= ;;
    *_1024 | *_2048) searches=search reference=runs/standard_${name##*_}/half.safetensors ;;
    *) searches="search own" reference=$models/standard.safetensors ;;
  esac
  evaluate "$name.budgets.csv" "$model" kjv.txt --windows "$wanted" --budgets $budgets
  case $searches in *search*)
    evaluate "$name.search.csv" "$model" kjv.txt --windows "$wanted" --reference "$reference" \
      --search-windows "$(unless_try $((wanted / 2)) 1)" --most "$most" ;;
  esac
  case $searches in *own*)
    evaluate "$name.own.csv" "$model" kjv.txt --windows "$wanted" --reference "$model" --slack 0.005 \
      --search-windows "$(unless_try $((wanted / 8)) 1)" --most "$most" ;;
  esac
  case $name in
    selective*)
      if ! fresh "$name.forgotten.csv"; then
        "$programs/activations" --model "$model" --text kjv.txt --windows 8 --npy "runs/$name" \
          --csv "$results/$name.forgotten.csv"
      fi
      [ "$name" != selective ] || cp "runs/$name"/selecting_[qk].npy "$bench_data" ;;
  esac
done
bench=$here/../../build/release/bench/attention.layer_plan_bench
[ ! -x "$bench" ] ||
  "$bench" --benchmark_filter=BlockSpan64 --benchmark_format=csv >"$results/spans.times.csv"
HEED_LM=$programs sh "$here/equal_bytes.sh" .
