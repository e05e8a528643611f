#!/usr/bin/env bash
# Which room may include which: the arrows of docs/architecture.md. A quoted
# include "room/file.h" of another room must be allowed below; the path is given
# from src/; src/eduai.c may include every room.
set -euo pipefail

allowed()
{
	case $1 in
		core) echo ;;
		events) echo core ;;
		projections) echo core events ;;
		queue) echo core ;;
		gateway) echo core queue ratelimit ;;
		ratelimit) echo core ;;
		cache) echo core ;;
		privacy) echo core events ;;
		broker | learning | security | pools | cdn) echo core ;;
		monitor) echo core 'STATS' ;;
		*) return 1 ;;
	esac
}

ROOMS=(core events projections queue gateway ratelimit cache privacy broker learning security pools cdn monitor)
if [ "$1" = --rooms ]; then
	printf '%s\n' "${ROOMS[@]}"
	exit
fi

cd "$1"
bad=0
declare -A arrows_of
fail() { echo "$*"; bad=1; }

while IFS=: read -r file line include; do
	room=${file#src/}
	case $room in */*) room=${room%%/*} ;; *) continue ;; esac
	included=${include#*\"}
	included=${included%%\"*}
	case $included in
		*/*) ;;
		*) [ ! -e "${file%/*}/$included" ] || fail "$file:$line: include \"$room/$included\" by its path from src/"; continue ;;
	esac
	target=${included%%/*}
	# PostgreSQL's own headers are quoted too.
	[ -e "src/$included" ] || continue
	[ "$target" != "$room" ] || continue
	[ -n "${arrows_of[$room]:-}" ] || arrows_of[$room]=" $(allowed "$room" || true) "
	arrows=${arrows_of[$room]}
	[[ $arrows == *" STATS "* && $included == "$target/stats.h" ]] && continue
	[[ $arrows == *" $target "* ]] || fail "$file:$line: $room may not include \"$included\""
done < <(grep -rnE --include='*.[ch]' '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' src || true)
exit $bad
