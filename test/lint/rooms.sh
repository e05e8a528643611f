#!/usr/bin/env bash
# One name, one room: every folder of sql/ is in the Makefile's ROOMS (or it is
# not loaded) and has a folder in src/ or is SQL alone with a page in docs/;
# every folder of src/ is a room that includes.sh knows.
set -euo pipefail
cd "$1"
bad=0
fail() { echo "$*"; bad=1; }

rooms=" $(sed -n 's/^ROOMS = //p' Makefile) "
known=" $("$(dirname "$(readlink -f "$0")")/includes.sh" --rooms | tr '\n' ' ') "
for dir in sql/*/; do
	room=$(basename "$dir")
	[ "$room" = upgrades ] && continue
	[ -n "$(ls -A "$dir")" ] || continue
	[[ $rooms == *" $room "* ]] || fail "sql/$room is not in the Makefile's ROOMS"
	for file in "$dir"*.sql; do
		case $(basename "$file") in schema.sql | functions.sql) ;; *) fail "$file would not be loaded: only schema.sql and functions.sql are" ;; esac
	done
done
for dir in src/*/; do
	room=$(basename "$dir")
	[[ $known == *" $room "* ]] || fail "src/$room is a room that test/lint/includes.sh does not know"
done
exit $bad
