#!/bin/sh
# SPDX-License-Identifier: MIT
# The two commands of the README on a Debian that has nothing but apt:
#
#   sh tests/chroot.sh bookworm                      both, from a bare system
#   sh tests/chroot.sh sid sh tests/test.sh clang    any other command in their place
#
# Needs root and debootstrap. The bare systems are kept in $HEED_CHROOTS (/var/tmp/heed-chroots),
# so that a second run is quick; what was run in is SUITE.run there, and is left for inspection.
set -eu

[ $# -gt 0 ] || { sed -n '3,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
suite=$1
shift
source=$(cd "$(dirname "$0")/.." && pwd)
chroots=${HEED_CHROOTS:-/var/tmp/heed-chroots}
bare=$chroots/$suite
system=$chroots/$suite.run
mkdir -p "$chroots"

if [ ! -e "$bare.ready" ]; then
  rm -rf "$bare"
  debootstrap --variant=minbase "$suite" "$bare" >"$bare.log" || { tail "$bare.log" >&2; exit 1; }
  # A mirror may hold a sid whose lists have run out.
  echo 'Acquire::Check-Valid-Until "false";' >"$bare/etc/apt/apt.conf.d/90valid-until"
  touch "$bare.ready"
fi

unmount() {
  if mountpoint -q "$system/proc"; then umount "$system/proc"; fi
}
trap unmount EXIT
trap 'exit 1' INT TERM

unmount
rm -rf --one-file-system "$system"
cp -a "$bare" "$system"
mount -t proc proc "$system/proc"
mkdir "$system/heed"
tar -C "$source" --exclude=./build --exclude=./.git -c . | tar -C "$system/heed" -x

# Nothing of this environment comes along but what the caller may want to set.
inside() {
  chroot "$system" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM="${TERM:-dumb}" \
    HEED_WERROR="${HEED_WERROR:-0}" sh -c 'cd /heed && exec "$@"' sh "$@"
}
if [ $# -gt 0 ]; then
  inside "$@"
else
  inside sh examples/demo.sh
  inside sh tests/test.sh
fi
