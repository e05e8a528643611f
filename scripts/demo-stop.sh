#!/usr/bin/env bash
# make demo-stop: stops what make demo left running and removes it; also a demo
# that is still at work, or one that was killed half way. Nothing to stop is fine.

. "$(dirname "$0")/lib.sh"
. "$ROOT/scripts/demo/place.sh"

# What other users (root by sudo, say) have running is theirs to stop.
others()
{
	local dir
	for dir in /var/tmp/eduai-demo-*; do
		[ ! -d "$dir" ] || [ "$dir" = "$WORK" ] || say "left alone: $dir is a demo of ${dir##*-}"
	done
}

if ! is_demo; then
	say "no demo at $WORK"
	others
	exit 0
fi

if ! lock_demo -n; then
	say "a make demo is still at work, interrupting it"
	pid=$(cat "$WORK/$MARK")
	# Only the process that holds the lock, whatever has that number now.
	[ ! "/proc/$pid/fd/9" -ef "$WORK" ] || kill -TERM "$pid" 2>/dev/null || true
	lock_demo -w 60 || [ ! -e "$WORK" ] || die "it does not end: process $pid"
fi
[ ! -e "$WORK" ] || end_processes
rm -rf "$WORK" 2>/dev/null || wait_gone
say "stopped and removed $WORK"
