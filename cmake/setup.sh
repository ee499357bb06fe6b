#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs those of the Debian packages named that are missing.
#
#   sh cmake/setup.sh PACKAGE...
#
# Prints nothing and needs no rights when all are there. Otherwise it calls apt-get, as root or
# through sudo. HEED_SKIP_SETUP=1 leaves the system as it is: for other systems, where the same
# tools are had by other means.
set -eu

[ "${HEED_SKIP_SETUP:-0}" = 1 ] && exit 0

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  echo "setup: this system has no apt-get. Install what these Debian packages hold:" >&2
  echo "setup:   $*" >&2
  echo "setup: then run again with HEED_SKIP_SETUP=1" >&2
  exit 1
fi

missing=
for package in "$@"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
    missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
  as_root=
elif command -v sudo >/dev/null; then
  as_root=sudo
else
  echo "setup: these packages are missing, and this is neither root nor a system with sudo:" >&2
  echo "setup:  $missing" >&2
  exit 1
fi

echo "setup: installing$missing"
# Another apt-get may be at work: wait for it, five minutes at most. --no-install-recommends keeps
# a compiler at 0.5 GB.
apt="$as_root env DEBIAN_FRONTEND=noninteractive
     apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0"
$apt update || echo "setup: the package lists could not be updated; going on with the old ones" >&2
# shellcheck disable=SC2086  # a list of words
$apt install -y --no-install-recommends $missing >/dev/null || {
  echo "setup: apt-get could not install:$missing" >&2
  exit 1
}
