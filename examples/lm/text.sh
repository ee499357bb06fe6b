#!/bin/sh
# SPDX-License-Identifier: MIT
# Writes a text to learn from to stdout, out of Debian's packages.
#
#   sh examples/lm/text.sh kjv > kjv.txt        the King James Bible, 4.2 MB, a verse a line
#   sh examples/lm/text.sh larger > larger.txt  the same, then GCIDE, a dictionary: 44 MB
#
# Both are the same bytes wherever the packages are of the same version.
set -eu

setup="$(dirname "$0")/../../cmake/setup.sh"
kjv() {
  sh "$setup" bible-kjv bible-kjv-text >&2
  LC_ALL=C bible -l9999 gen1:1-rev22:21 | sed 's/^  *//'
}
case "${1:-}" in
  kjv) kjv ;;
  larger)
    kjv
    sh "$setup" dict-gcide >&2
    gzip -dc </usr/share/dictd/gcide.dict.dz ;;
  *) echo "text.sh: which text, kjv or larger?" >&2; exit 2 ;;
esac
