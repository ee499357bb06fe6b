#!/bin/sh
# SPDX-License-Identifier: MIT
# From a bare Debian to attention over 131,072 tokens on 1, 2 and 4 processes: sets up what is
# missing, OpenMPI too, builds the programs here, and prints a table.
#
#   sh examples/mpi/demo.sh            131072 tokens: minutes
#   sh examples/mpi/demo.sh 16384      fewer
set -eu

tokens=${1:-131072}
case $tokens in *[!0-9]* | "") echo "demo.sh: $tokens is no number of tokens" >&2; exit 2 ;; esac
cd "$(dirname "$0")/../.."
sh cmake/setup.sh g++ cmake ninja-build pkg-config libeigen3-dev libxsimd-dev libopenmpi-dev openmpi-bin

# The compiler's talk is of no interest unless it fails.
log=build/mpi-demo.log
mkdir -p build
if ! { cmake -S examples/mpi -B build/mpi-demo -G Ninja -Wno-dev -DCMAKE_BUILD_TYPE=Release \
             -DHEED_SOURCE="$PWD" -DHEED_MARCH=native && cmake --build build/mpi-demo; } >$log 2>&1; then
  tail -n 40 $log >&2
  echo "demo.sh: the build failed; $log has all of it" >&2
  exit 1
fi

# Containers run as root, and this machine may have fewer cores than there are ranks.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
run() {
  ranks=$1
  shift
  program=$1
  shift
  mpirun --oversubscribe -n "$ranks" "build/mpi-demo/$program" "$@"
}

echo "Forward and backward of 1000 tokens: the same on any number of ranks"
for ranks in 1 2 4; do run $ranks train_step; done
echo
echo "Forward of $tokens tokens, 4 heads of 32 over 2 key heads, float, random, one thread a rank, $(nproc) cores"
echo
echo "| variant   | sharding   | ranks | seconds | MB, rank |  MB sent | of ring  | 1e9 pairs | imbalance | Σ out² |"
echo "| --------- | ---------- | ----: | ------: | -------: | -------: | -------: | --------: | --------: | ---: |"
for ranks in 1 2 4; do run $ranks attention causal zigzag "$tokens"; done
run 4 attention causal contiguous "$tokens"
for ranks in 1 2 4; do run $ranks attention window contiguous "$tokens"; done
for ranks in 1 2 4; do run $ranks attention selective zigzag "$tokens"; done
echo
echo "MB, rank: the most memory a rank had. Of ring: what RingAttention would send. 1e9 pairs: scores"
echo "that were computed. Imbalance: those of the busiest rank over the mean. Σ out²: the same result."
