#!/usr/bin/env bash
# No C file over 600 lines, no C function over 100. A function is what stands
# between a line "{" and a line "}" in the first column.
set -euo pipefail
cd "$1"
mapfile -t files < <(find src -name '*.[ch]' | sort)
awk '
	function close_file() { if (lines > 600) { print file ": " lines " lines, at most 600"; bad = 1 } }
	FNR == 1 { close_file(); file = FILENAME; start = 0; name = "" }
	{ lines = FNR }
	/^[A-Za-z_].*\(/ { name = $0 }
	/^\{/ { start = FNR }
	/^\}/ { if (start && FNR - start - 1 > 100) { print file ":" start ": " FNR - start - 1 " lines, at most 100: " name; bad = 1 } start = 0 }
	END { close_file(); exit bad }' "${files[@]}" </dev/null
