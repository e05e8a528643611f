# shellcheck shell=bash
# For demo.sh and demo-stop.sh, after lib.sh: the directory in which the demo
# lives on when its script has ended, and how it goes away.
#
# DEMO_DIR chooses another directory, and so a second demo beside the first. A
# lock on the directory keeps two scripts out of one another's way; what the
# demo leaves running does not hold it.

MARK=.eduai-demo
WORK=${DEMO_DIR:-/var/tmp/eduai-demo-$(id -un)}

# Is WORK a demo's, and ours to remove? Anybody may make names in /var/tmp.
is_demo()
{
	[ -d "$WORK" ] && [ ! -L "$WORK" ] || return 1
	[ -f "$WORK/$MARK" ] || [ -z "$(ls -A "$WORK")" ] || return 1
	case $(stat -c %U "$WORK") in
		"$(id -un)") ;;
		postgres | eduai-test) [ "$(id -u)" = 0 ] ;;
		*) return 1 ;;
	esac
}

# lock_demo FLOCK_OPTIONS: file descriptor 9 is the lock, until this script ends.
lock_demo()
{
	exec 9<"$WORK" && flock "$@" 9 && [ /proc/self/fd/9 -ef "$WORK" ]
}

# Makes WORK, or takes over a former demo's and empties it.
take_demo()
{
	[ ${#WORK} -le 80 ] || die "DEMO_DIR is too long for the path of a socket: $WORK"
	if ! mkdir -m 700 "$WORK" 2>/dev/null && ! is_demo; then
		die "$WORK exists and is not a demo of yours (or its directory cannot be written); set DEMO_DIR"
	fi
	lock_demo -n || die "another make demo is at work in $WORK"
	trap remove_demo EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	trap 'exit 129' HUP
	if [ -e "$WORK/$MARK" ]; then
		say "replacing the former demo"
		end_processes
		find "$WORK" -mindepth 1 ! -path "$WORK/$MARK" -delete
	fi
	echo $$ >"$WORK/$MARK"
}

# Ends whatever runs from WORK. At once, for its data go too.
end_processes()
{
	local pid
	pid=$(head -1 "$WORK/demo/data/postmaster.pid" 2>/dev/null) || pid=
	if [ -n "$pid" ] && [ "/proc/$pid/cwd" -ef "$WORK/demo/data" ]; then
		kill -QUIT "$pid" 2>/dev/null || true
		wait_for_end "$pid"
	fi
	kill_strays
}

wait_for_end()
{
	local tries
	for tries in {1..50}; do
		kill -0 "$1" 2>/dev/null || return 0
		[ "$tries" = 50 ] || sleep 0.1
	done
}

# On the way out of demo.sh unless it came to its end: nothing stays.
remove_demo()
{
	local status=$?
	trap - EXIT
	trap '' INT TERM HUP
	[ "$status" -ne 0 ] || status=1
	if [ "$status" -lt 128 ]; then
		grep -hE '(ERROR|FATAL|PANIC):' "$WORK/demo/log" 2>/dev/null | tail -n 5 | sed 's/^/server log: /' >&2 || true
	fi
	[ "${KEEP:-0}" != 1 ] || { say "kept $WORK" >&2; exit "$status"; }
	say "cleaning up" >&2
	end_processes
	rm -rf "$WORK" 2>/dev/null || wait_gone
	exit "$status"
}

# The demo stays when this script ends.
keep_demo() { trap - EXIT INT TERM HUP; }
