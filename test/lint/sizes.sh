#!/usr/bin/env bash
# No C file over 600 lines, no C function over 100. A function is what stands
# between a line "{" and a line "}" in the first column.
set -euo pipefail
cd "$1"
bad=0
while read -r file; do
	lines=$(wc -l <"$file")
	[ "$lines" -le 600 ] || { echo "$file: $lines lines, at most 600"; bad=1; }
	awk -v file="$file" '
		/^[A-Za-z_].*\(/ { name = $0 }
		/^\{/ { start = NR }
		/^\}/ { if (start && NR - start - 1 > 100) { print file ":" start ": " NR - start - 1 " lines, at most 100: " name; bad = 1 } start = 0 }
		END { exit bad }' "$file" || bad=1
done < <(find src -name '*.[ch]' | sort)
exit $bad
