# shellcheck shell=bash
# Shared by the scripts here: source it, do not run it.
#
# Everything happens in a private work directory owned by an unprivileged user
# (PostgreSQL refuses to run as root), with a private copy of the PostgreSQL
# installation: the machine's own clusters and its installed extensions are
# neither used nor changed, and two runs cannot meet. Whatever a script started
# or made goes away when it ends, by Ctrl-C too. KEEP=1 keeps the directory.

set -euo pipefail
unset LANG LANGUAGE PGHOST PGPORT PGUSER PGDATABASE PGSERVICE PGOPTIONS PGDATA PGPASSWORD
export LC_ALL=C

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
ME=$(basename "$0" .sh)
# GNU make hands its own flags down; a script's makes are runs of their own.
unset MAKEFLAGS MAKELEVEL MFLAGS

say() { printf '%s: %s\n' "$ME" "$*"; }
die() { printf '%s: %s\n' "$ME" "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Sets PG_CONFIG, PG_MAJOR and PG_PGXS: PG_CONFIG if it was given, else PGVERSION's
# among Debian's packages, else the first on the path that can build extensions.
find_pg()
{
	local candidate candidates=()
	if [ -n "${PG_CONFIG:-}" ] && [ "$PG_CONFIG" != pg_config ]; then
		candidates=("$PG_CONFIG")
	elif [ -n "${PGVERSION:-}" ]; then
		candidates=("/usr/lib/postgresql/$PGVERSION/bin/pg_config")
	else
		mapfile -t candidates < <(command -v pg_config; printf '%s\n' /usr/lib/postgresql/*/bin/pg_config | sort -rV)
	fi
	for candidate in "${candidates[@]}"; do
		PG_PGXS=$("$candidate" --pgxs 2>/dev/null) || continue
		[ -f "$PG_PGXS" ] || continue
		[ -x "$("$candidate" --bindir)/postgres" ] || continue
		PG_CONFIG=$candidate
		PG_MAJOR=$("$candidate" --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/')
		PG_PGXS=$(dirname "$(dirname "$(dirname "$PG_PGXS")")")
		export PG_CONFIG PG_MAJOR PG_PGXS
		return 0
	done
	return 1
}

need_pg() { find_pg || die "no PostgreSQL server with its development files found; run scripts/setup.sh"; }

# Sets RUN_USER, who runs servers and tests: the invoking user, or for root the
# package's user postgres, or else a user made for the purpose.
choose_user()
{
	if [ "$(id -u)" != 0 ]; then
		RUN_USER=$(id -un)
	elif id -u postgres >/dev/null 2>&1; then
		RUN_USER=postgres
	else
		RUN_USER=eduai-test
		id -u "$RUN_USER" >/dev/null 2>&1 ||
			useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$RUN_USER"
	fi
}

# Runs a command as RUN_USER, in the work directory unless the caller has moved
# to a place below it (the checkout may be unreadable to that user).
as_user()
{
	local dir=$PWD
	case $dir in "$WORK"/*) ;; *) dir=$WORK ;; esac
	if [ "$(id -un)" = "$RUN_USER" ]; then
		(cd "$dir" && exec env HOME="$WORK" "$@")
	else
		(cd "$dir" && exec setpriv --reuid "$RUN_USER" --regid "$(id -g "$RUN_USER")" --init-groups \
			env HOME="$WORK" USER="$RUN_USER" LOGNAME="$RUN_USER" "$@")
	fi
}

# Makes WORK. A socket's path is limited to 107 bytes, so a long TMPDIR, or one
# that RUN_USER cannot enter, gives way to /var/tmp.
make_work()
{
	local base
	choose_user
	WORK=/
	for base in "${TMPDIR:-/var/tmp}" /var/tmp /tmp; do
		[ ${#base} -le 40 ] && as_user test -w "$base" -a -x "$base" 2>/dev/null && break
	done
	WORK=$(mktemp -d "$base/eduai-XXXXXX")
	trap clean_up EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	trap 'exit 129' HUP
	chmod 700 "$WORK"
	chown "$RUN_USER" "$WORK"
	export TMPDIR=$WORK
}

CLUSTERS=()
# processes, and process groups with a minus
CHILDREN=()

clean_up()
{
	local status=$? cluster child
	trap - EXIT INT TERM HUP
	for child in ${CHILDREN[@]+"${CHILDREN[@]}"}; do kill -- "$child" 2>/dev/null || true; done
	for cluster in ${CLUSTERS[@]+"${CLUSTERS[@]}"}; do stop_cluster "$cluster" || true; done
	kill_strays
	if [ "${KEEP:-0}" = 1 ]; then
		say "kept $WORK"
	else
		rm -rf "$WORK" 2>/dev/null || { wait_gone; rm -rf "$WORK"; }
	fi
	exit "$status"
}

# Ends what a test tool that was interrupted, or that died, left running: every
# process whose program is in WORK, so one of this run.
kill_strays()
{
	local process program
	for process in /proc/[0-9]*; do
		program=$(readlink "$process/exe" 2>/dev/null) || continue
		[[ $program == "$WORK"/* ]] || continue
		kill -KILL "${process#/proc/}" 2>/dev/null || true
	done
}

# Servers on their way down still write into the directory being removed.
wait_gone()
{
	local tries
	for tries in 1 2 3 4 5 6 7 8 9 10; do
		rm -rf "$WORK" 2>/dev/null && return
		sleep 0.3
	done
}

# Copies the PostgreSQL installation (some 50 MB; it finds its files relative to
# its programs) to WORK/pg and sets PG_BIN. The extension goes there by
# install_extension, so that no run needs or changes the machine's directories.
copy_pg()
{
	local dir
	for dir in --bindir --pkglibdir --sharedir; do
		dir=$("$PG_CONFIG" "$dir")
		[ -d "$WORK/pg$dir" ] && continue
		mkdir -p "$WORK/pg$dir"
		tar -C "$dir" --exclude=./bitcode --exclude=./pgxs --exclude='./eduai*' --exclude='./extension/eduai*' -cf - . |
			tar -C "$WORK/pg$dir" -xf -
	done
	PG_BIN=$WORK/pg$("$PG_CONFIG" --bindir)
	PATH=$PG_BIN:$PATH
	export PG_BIN PATH
	chown -R "$RUN_USER" "$WORK/pg"
}

# Builds in the checkout; quiet unless it fails.
build_extension() { make -C "$ROOT" -s -j"$(nproc)" all PG_CONFIG="$PG_CONFIG"; }

install_extension()
{
	make -C "$ROOT" -s install PG_CONFIG="$PG_CONFIG" DESTDIR="$WORK/pg" >/dev/null
	chown -R "$RUN_USER" "$WORK/pg"
}

# Builds the provider simulator, if the tree has one, and sets EDUAI_SIMULATOR.
build_simulator()
{
	[ -f "$ROOT/test/provider/Makefile" ] || return 0
	make -C "$ROOT/test/provider" -s all
	EDUAI_SIMULATOR=$ROOT/test/provider/eduai-simulator
	[ -x "$EDUAI_SIMULATOR" ] || die "test/provider did not build $EDUAI_SIMULATOR"
	if [ -n "${WORK:-}" ]; then
		install -m 755 "$EDUAI_SIMULATOR" "$WORK/simulator"
		EDUAI_SIMULATOR=$WORK/simulator
	fi
	export EDUAI_SIMULATOR
}

# Copies the tree to WORK/tree, for a user who may not read the checkout.
copy_tree()
{
	mkdir -p "$WORK/tree"
	tar -C "$ROOT" --exclude=./.git --exclude=./tmp_check --exclude=./results -cf - . | tar -C "$WORK/tree" --no-same-owner -xf -
	chown -R "$RUN_USER" "$WORK/tree"
}

# wrap_postgres SCRIPT: puts a script in front of the private server program,
# which it finds as postgres.real beside itself. Bootstrap and version queries
# go to the program directly: nothing of the extension runs there.
wrap_postgres()
{
	mv "$PG_BIN/postgres" "$PG_BIN/postgres.real"
	cat >"$PG_BIN/postgres" <<-WRAPPER
		#!/bin/bash
		real="\$(dirname "\$0")/postgres.real"
		case "\$1" in --boot | --check | --single | --describe-config | -V | --version | -C) exec "\$real" "\$@" ;; esac
		$1
	WRAPPER
	chmod 755 "$PG_BIN/postgres"
	chown "$RUN_USER" "$PG_BIN/postgres"
}

# start_simulator: on a free port; sets SIMULATOR_URL and SIMULATOR_PID. Ends with
# the script.
start_simulator()
{
	local port_file=$WORK/simulator.port tries
	rm -f "$port_file"
	as_user "$EDUAI_SIMULATOR" --port 0 --port-file "$port_file" --parent-pid $$ >"$WORK/simulator.log" 2>&1 </dev/null &
	CHILDREN+=($!)
	for tries in {1..100}; do
		[ -s "$port_file" ] && break
		[ "$tries" -lt 100 ] || { cat "$WORK/simulator.log" >&2; die "the simulator did not start"; }
		sleep 0.1
	done
	SIMULATOR_URL=http://127.0.0.1:$(cat "$port_file")
	SIMULATOR_PID=$(find /proc -maxdepth 2 -name exe -lname "$EDUAI_SIMULATOR" 2>/dev/null | sed -n 's|^/proc/\([0-9]*\)/exe$|\1|p' | head -1) || true
	export SIMULATOR_URL SIMULATOR_PID
}

# What a measurement must be read with.
describe_machine()
{
	echo "machine:  $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores, $(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo), $(uname -sr), $(stat -f -c %T "$WORK") at $WORK"
	echo "versions: $("$PG_CONFIG" --version), eduai $(sed -n "s/^default_version = '\(.*\)'/\1/p" "$ROOT/eduai.control")$(git -C "$ROOT" describe --always --dirty 2>/dev/null | sed 's/^/ at /' || true)"
}

describe_settings()
{
	echo "settings: $(psql -XAtq -c "SELECT string_agg(name || '=' || current_setting(name), ' ' ORDER BY name) FROM pg_settings WHERE source = 'configuration file' AND name NOT IN ('unix_socket_directories', 'port', 'DateStyle', 'default_text_search_config', 'dynamic_shared_memory_type', 'lc_messages', 'lc_monetary', 'lc_numeric', 'lc_time', 'log_timezone', 'TimeZone')")"
}

free_port()
{
	local port tries
	for tries in {1..200}; do
		port=$((20000 + RANDOM % 12000 + tries))
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
	done
	die "no free port found"
}

# start_cluster NAME [SETTING=VALUE ...]: a new cluster in WORK/NAME, reached by
# PGHOST (its socket), PGPORT, PGUSER and PGDATABASE, which are exported. No TCP
# unless listen_addresses is among the settings.
start_cluster()
{
	local name=$1 setting data=$WORK/$1/data
	shift
	mkdir -p "$WORK/$name"
	chown "$RUN_USER" "$WORK/$name"
	as_user "$PG_BIN/initdb" -D "$data" -A trust -U postgres -E UTF8 --no-locale -N >"$WORK/$name/initdb.log" 2>&1 ||
		{ cat "$WORK/$name/initdb.log" >&2; die "initdb failed"; }
	PGPORT=$(free_port)
	{
		printf "unix_socket_directories = '%s'\n" "$WORK"
		printf 'port = %s\n' "$PGPORT"
		printf "listen_addresses = ''\n"
		for setting in "$@"; do printf "%s = '%s'\n" "${setting%%=*}" "${setting#*=}"; done
	} >>"$data/postgresql.conf"
	CLUSTERS+=("$name")
	as_user "$PG_BIN/pg_ctl" -D "$data" -l "$WORK/$name/log" -w -t 60 -s start ||
		{ tail -50 "$WORK/$name/log" >&2; die "the server did not start"; }
	PGHOST=$WORK PGUSER=postgres PGDATABASE=postgres
	export PGHOST PGPORT PGUSER PGDATABASE
}

stop_cluster()
{
	local data=$WORK/$1/data
	[ -f "$data/postmaster.pid" ] || return 0
	as_user "$PG_BIN/pg_ctl" -D "$data" -m fast -w -t 20 -s stop 2>/dev/null ||
		as_user "$PG_BIN/pg_ctl" -D "$data" -m immediate -w -t 10 -s stop
}

# write_server NAME: a program that starts ("start") and stops ("stop") the
# cluster NAME, for programs that kill it; sets EDUAI_SERVER. A server that was
# killed starts once its last process is gone.
write_server()
{
	local switch_user=""
	[ "$(id -un)" = "$RUN_USER" ] || switch_user="setpriv --reuid $RUN_USER --regid $(id -g "$RUN_USER") --init-groups"
	cat >"$WORK/server" <<-SERVER
		#!/bin/bash
		cd "$WORK"
		server() { $switch_user "$PG_BIN/pg_ctl" -D "$WORK/$1/data" -l "$WORK/$1/log" -w -t 60 -s "\$@"; }
		[ "\$1" = start ] || { server -m fast stop || server -m immediate stop; exit; }
		for tries in {1..100}; do
			server start && exit
			sleep 0.2
		done
		exit 1
	SERVER
	chmod 755 "$WORK/server"
	export EDUAI_SERVER=$WORK/server
}
