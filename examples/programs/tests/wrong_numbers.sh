#!/bin/sh
# SPDX-License-Identifier: MIT
# Every option that takes a number, as --help lists them, refuses what is none or out of range, by
# its name, the value and the rule:
#
#   wrong_numbers.sh PROGRAM REQUIRED-ARGUMENTS...
set -u
flags=$("$1" --help | sed -n 's/^ *\(--[a-z-]*\) [NX][^A-Za-z].*/\1/p')
[ -n "$flags" ] || { echo "wrong_numbers.sh: $1 has no such option" >&2; exit 1; }
failed=0
for flag in $flags; do
  for value in nan -nan inf -inf -1 99999999999999999999999 1e999 1x ''; do
    errors=$("$@" "$flag" "$value" 2>&1 >/dev/null)
    code=$?
    case $errors in
      *": $flag is '$value', must be a "*" number from "*" to "*) [ $code -eq 2 ] && continue ;;
    esac
    echo "wrong_numbers.sh: $flag '$value' ended with $code and said: $errors" >&2
    failed=1
  done
done
exit $failed
