# SPDX-License-Identifier: MIT
# Holds counts, "work pairs×dim tiles instructions" a line, against the file `recorded`.
#
# The very compiler that is recorded stays within 8 %: it chooses the same instructions for the same
# sources. Fewer fail too, since a record that is too high hides the next loss. Another compiler, or
# another version, is held against the worst of the records and may take a quarter more, or any
# number less: room for its own choices, and far from the twice as many of a loop that has lost its
# registers. Pairs and tiles are the algorithm's, the same for all.
BEGIN {
  while ((getline line < recorded) > 0) {
    if (line ~ /^#/) continue
    split(line, column)
    work = column[1]
    pairs[work] = column[3]
    tiles[work] = column[4]
    if (column[5] > worst[work]) worst[work] = column[5]
    if (column[2] == compiler) own[work] = column[5]
  }
  print "work        pairs × dim  tiles  instructions  a pair and dimension"
}
{
  work = $1
  each = $4 / $2
  least = work in own ? own[work] * 0.92 : 0
  most = work in own ? own[work] * 1.08 : worst[work] * 1.25
  verdict = ""
  if ($2 != pairs[work]) verdict = verdict ", pairs × dim WERE " pairs[work]
  if ($3 != tiles[work]) verdict = verdict ", tiles WERE " tiles[work]
  if (each > most) verdict = verdict ", TOO MANY"
  if (each < least) verdict = verdict ", FEWER: record anew"
  printf "%-11s %11d %6d %13d  %.3f, may be %.3f to %.3f%s\n",
         work, $2, $3, $4, each, least, most, verdict
  if (verdict != "") failed = 1
  delete pairs[work]
}
END {
  for (work in pairs) {
    print work ": NOT COUNTED"
    failed = 1
  }
  exit failed
}
