#!/bin/sh
# SPDX-License-Identifier: MIT
# The tests of the library, from a bare Debian: sets up what is missing, builds and runs.
#
#   sh tests/test.sh            release, sanitize, clang, headers, threads and instructions
#   sh tests/test.sh all        every part
#   sh tests/test.sh PART...    some of them:
#
#     release    g++ for this machine: every test; those of threads at -O3 too; each header's place
#                in the layers; what must not compile; the package installed, moved and found by
#                CMake and by pkg-config, and as a subdirectory; several instruction sets in one
#                program; the C interface from C and from Python; the examples
#     headers    each header compiled alone
#     sanitize   every test for plain x86-64, with asserts, AddressSanitizer and
#                UndefinedBehaviorSanitizer
#     threads    forward, backward and buffer on pools of threads, and by several callers at once,
#                with ThreadSanitizer
#     clang      clang++ for this machine: as release, but for the C interface and threads at -O3
#     instructions
#                how many a few small pieces of work take, for AVX2, counted under valgrind
#     mpi        1, 2, 3, 4 and 8 processes under OpenMPI against one process
#     baseline   every test for plain x86-64, as users build it
#     avx2       every test for AVX2
#     neon       64-bit Arm, by a cross compiler and an emulator: registers, forward, backward and
#                buffer in a program of their own, and the package's kernels
#
# Two parts run at a time, the longest should come first; what a part says is shown when it ends, and
# stays in build/PART.log. It goes on after a part that fails, and ends with a line for each and one for all.
# CXX names another g++. HEED_WERROR=1 makes a warning an error. HEED_SKIP_SETUP=1 installs nothing.
set -u

cd "$(dirname "$0")/.." || exit 1
every_part="release sanitize clang baseline avx2 headers threads instructions mpi neon"
[ $# -gt 0 ] || set -- release sanitize clang headers threads instructions
[ "$*" != all ] || set -- $every_part
for part in "$@"; do
  case " $every_part " in
    *" $part "*) ;;
    *) echo "test.sh: no part is called $part; there are $every_part" >&2; exit 2 ;;
  esac
done

# qemu-user is the processor without AVX on which the narrow half of a mixed program is run.
packages="g++ cmake ninja-build pkg-config libeigen3-dev libxsimd-dev libgtest-dev libbenchmark-dev
          libcli11-dev libstb-dev nlohmann-json3-dev qemu-user libdlpack-dev python3-numpy"
case " $* " in *" clang "*) packages="$packages clang" ;; esac
case " $* " in *" instructions "*) packages="$packages valgrind" ;; esac
case " $* " in *" mpi "*) packages="$packages libopenmpi-dev openmpi-bin" ;; esac
case " $* " in *" neon "*) packages="$packages g++-aarch64-linux-gnu googletest" ;; esac
# shellcheck disable=SC2086  # a list of words
sh cmake/setup.sh $packages || exit 1

jobs=$(nproc 2>/dev/null || echo 2)
options="-DCMAKE_COMPILE_WARNING_AS_ERROR=${HEED_WERROR:-0}"
command -v ccache >/dev/null && options="$options -DCMAKE_CXX_COMPILER_LAUNCHER=ccache"

# The instruction sets named in the presets are those of x86-64.
x86=no avx2=no
case "$(uname -m)" in
  x86_64) x86=yes; grep -qw avx2 /proc/cpuinfo && avx2=yes ;;
esac

# Benchmarks are no tests, but must build: once, as quickly as may be.
configure() {
  case $1 in
    release) own=-DHEED_BUILD_BENCH=OFF ;;
    clang) own="-DHEED_BUILD_BENCH=ON -DHEED_BENCH_FLAGS=-O0" ;;
    sanitize) own=; [ $x86 = yes ] || own=-DHEED_MARCH=native ;;
    *) own= ;;
  esac
  # shellcheck disable=SC2086  # lists of words
  cmake --preset "$1" -Wno-dev $options $own
}

build() {
  cmake --build --preset "$1" --parallel "$jobs"
}

# GoogleTest for Arm, from the source that Debian brings.
googletest_for_arm() {
  googletest=build/neon/googletest
  cmake -S /usr/src/googletest -B $googletest -G Ninja -Wno-dev -DBUILD_GMOCK=OFF \
        -DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/aarch64-linux-gnu.cmake" &&
  cmake --build $googletest && cmake --install $googletest --prefix $googletest/installed
}

# Why a part cannot run here; nothing if it can.
hindrance() {
  case $1 in
    baseline) [ $x86 = yes ] || echo "this processor cannot run it" ;;
    avx2) [ $avx2 = yes ] || echo "this processor cannot run it" ;;
    instructions)
      [ $avx2 = yes ] || echo "this processor has no AVX2"
      command -v valgrind >/dev/null || echo "valgrind is missing" ;;
    mpi) command -v mpiexec >/dev/null || echo "no MPI is installed" ;;
  esac
}

# ThreadSanitizer of g++ 12 ends where addresses are as random as newer kernels make them.
fixed_addresses() {
  if setarch "$(uname -m)" -R true 2>/dev/null; then setarch "$(uname -m)" -R "$@"; else "$@"; fi
}

run() {
  [ "$1" != neon ] || googletest_for_arm || return 1
  case $1 in
    headers) configure headers && build headers ;;
    threads) configure threads && build threads && fixed_addresses ctest --preset threads ;;
    *) configure "$1" && build "$1" && ctest --preset "$1" --parallel "$jobs" ;;
  esac
}

# A part, from start to end; its line of the table to build/PART.result.
take() {
  start=$(date +%s) failures=build/$1/Testing/Temporary/LastTestsFailed.log
  rm -f "$failures"
  echo
  echo "== $1"
  reason=$(hindrance "$1")
  if [ -n "$reason" ]; then
    result="skipped: $reason"
  elif run "$1"; then
    result=passed
  else
    result=FAILED
    [ ! -f "$failures" ] || result="FAILED $(cut -d: -f2 "$failures" | tr '\n' ' ')"
  fi
  printf '  %-12s %s, %s s\n' "$1" "${result% }" $(($(date +%s) - start)) >"build/$1.result"
}

# Takes the parts that are not taken yet. What a part says is shown when it ends.
lane() {
  for part in "$@"; do
    mkdir "$taken/$part" 2>/dev/null || continue
    echo "-- $part begins, see build/$part.log"
    take "$part" >"build/$part.log" 2>&1
    cat "build/$part.log"
  done
}

began=$(date +%s)
mkdir -p build
for part in "$@"; do rm -f "build/$part.result"; done
if [ $# -eq 1 ]; then
  take "$1"
else
  # Two at a time: while one configures, links, compiles its last file or runs its longest test, the
  # other keeps the cores busy.
  jobs=$((jobs / 2 + 1))
  taken=$(mktemp -d)
  trap 'rm -rf "$taken"' EXIT
  trap 'trap - INT TERM; kill 0' INT TERM
  lane "$@" &
  lane "$@" &
  wait
fi

failed= table=
for part in "$@"; do
  line=$(cat "build/$part.result" 2>/dev/null || echo "  $part FAILED: it did not end")
  case $line in *FAILED*) failed="$failed $part" ;; esac
  table="$table$line
"
done
minutes=$((($(date +%s) - began + 30) / 60))
echo
printf '%s' "$table"
if [ -n "$failed" ]; then
  echo "heed: FAILED:$failed ($minutes min)"
  exit 1
fi
echo "heed: all tests passed ($minutes min)"
