#!/usr/bin/env bash
# src/ and the test programs are formatted as .clang-format says. Other versions
# of clang-format disagree with 14 on details, so only 14 judges.
set -euo pipefail
style=$(dirname "$(readlink -f "$0")")/../../.clang-format
cd "$1"
format=$(command -v clang-format-14 || command -v clang-format)
if ! "$format" --version | grep -q 'version 14\.'; then
	echo "SKIPPED: needs clang-format 14, found $("$format" --version)"
	exit 0
fi

mapfile -t files < <(find src test -path test/lint -prune -o -name '*.[ch]' -print 2>/dev/null | sort)
[ ${#files[@]} -gt 0 ] || exit 0
if wrong=$("$format" --style="file:$style" --dry-run --Werror "${files[@]}" 2>&1); then
	exit 0
fi
sed -n 's/^\([^:]*\):[0-9]*:[0-9]*: error:.*/\1: not formatted; run make format/p' <<<"$wrong" | sort -u | grep . || printf '%s\n' "$wrong"
exit 1
