#!/usr/bin/env bash
# Draws a command's output as a terminal picture in SVG:
#   target/release/cofferdam demo | tee demo.txt | scripts/svg_table.sh > docs/demo.svg
set -eu
columns=${COLUMNS_OF_PICTURE:-128}
sed 's/\x1b\[[0-9;]*[A-Za-z]//g; s/ *$//' | fold -s -w "$columns" | awk -v columns="$columns" '
  function clean(s) { gsub(/&/, "\\&amp;", s); gsub(/</, "\\&lt;", s); gsub(/>/, "\\&gt;", s); return s }
  { lines[NR] = $0 }
  END {
    step = 17; left = 16; top = 30
    width = int(columns * 7.25) + 2 * left; height = top + NR * step + 6
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\">\n", width, height, width, height
    print "<style>text{font:12px ui-monospace,\"DejaVu Sans Mono\",Menlo,Consolas,monospace;white-space:pre;fill:#d0d7de} .head{fill:#8b949e} .good{fill:#56d364} .said{fill:#f0f6fc}</style>"
    printf "<rect width=\"%d\" height=\"%d\" rx=\"8\" fill=\"#0d1117\"/>\n", width, height
    for (i = 1; i <= NR; i++) {
      line = clean(lines[i]); class = ""
      if (line ~ /^POD  /) class = " class=\"head\""
      if (line ~ /^[A-Z][a-z].*:/) class = " class=\"said\""
      gsub(/Running|^  refused/, "<tspan class=\"good\">&</tspan>", line)
      printf "<text x=\"%d\" y=\"%d\" xml:space=\"preserve\"%s>%s</text>\n", left, top + (i - 1) * step, class, line
    }
    print "</svg>"
  }'
