#!/usr/bin/env bash
# make bench: every benchmark of test/bench in turn, against a private server
# that keeps what it promises (fsync on) and a simulated provider.
#
#   BENCH="queue_claim"   only these
#   ROUNDS=7 SECONDS=5    read by the benchmarks, as EVENTS, TASKS and SAMPLES are
#
# A benchmark is test/bench/NAME.sh, NAME.py, or a NAME.c that test/bench/Makefile
# builds to bin/NAME. It finds the server by PGHOST, PGPORT, PGUSER and PGDATABASE
# (the extension is created), the simulator by SIMULATOR_URL, and prints its own
# rounds, median and spread. EDUAI_WORK is a directory that goes away afterwards;
# PG_BIN holds the server's programs. EDUAI_SERVER is a program that starts
# ("start") and stops ("stop") the server, for a benchmark that kills it or needs
# another setting, which it puts back.

. "$(dirname "$0")/lib.sh"
. "$ROOT/scripts/programs.sh"

"$ROOT/scripts/setup.sh" base bench
need_pg
make_work
build_extension
build_simulator
copy_pg
install_extension

# wanted NAME ...: is one of these to run?
wanted()
{
	local name
	[ -n "${BENCH:-}" ] || return 0
	for name in "$@"; do [[ " $BENCH " != *" $name "* ]] || return 0; done
	return 1
}

# PgQ, a peer of events_append and queue_peers, goes from the archive into the
# private copy of PostgreSQL only. The benchmark says that it is skipped where
# there is none.
add_pgq()
{
	wanted events_append queue_peers || return 0
	mkdir "$WORK/pgq"
	(cd "$WORK/pgq" && apt-get -q download "postgresql-$PG_MAJOR-pgq3" && dpkg -x ./*.deb .) >"$WORK/pgq.log" 2>&1 || return 0
	cp "$WORK/pgq/usr/lib/postgresql/$PG_MAJOR"/lib/*.so "$WORK/pg$("$PG_CONFIG" --pkglibdir)"
	cp "$WORK/pgq/usr/share/postgresql/$PG_MAJOR"/extension/* "$WORK/pg$("$PG_CONFIG" --sharedir)/extension"
	chown -R "$RUN_USER" "$WORK/pg"
}

# The peers of queue_peers that are Node's go to a private directory with their
# packages, and a newer Node where this machine's is older than they ask for;
# EDUAI_PEERS names it. Without npm or its registry the benchmark skips them.
add_peers()
{
	local dir=$WORK/peers node=() major
	wanted queue_peers || return 0
	have npm && have node || return 0
	major=$(node -p 'process.versions.node.split(".")[0]')
	[ "$major" -ge 24 ] || node=(node@22)
	mkdir "$dir"
	cp "$ROOT"/test/bench/peers/*.mjs "$dir"
	echo '{"private": true}' >"$dir/package.json"
	(cd "$dir" && timeout 300 npm install --no-audit --no-fund graphile-worker@0.18 pg-boss@12 pg@8 ${node[@]+"${node[@]}"}) >"$WORK/npm.log" 2>&1 || return 0
	if [ -x "$dir/node_modules/.bin/node" ]; then
		ln -s node_modules/.bin/node "$dir/node"
	else
		ln -s "$(command -v node)" "$dir/node"
	fi
	"$dir/node" --version >>"$WORK/npm.log" 2>&1 || return 0
	export EDUAI_PEERS=$dir
}

# Redis, the peer of cache_get, goes from the archive into a private directory,
# with the libraries it needs; EDUAI_REDIS is a program that runs it. The
# benchmark says so where there is none.
add_redis()
{
	local dir=$WORK/redis packages
	wanted cache_get || return 0
	mkdir "$dir"
	packages=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks \
		--no-replaces --no-enhances redis-server 2>/dev/null | grep -E '^(redis|libjemalloc|liblua|liblzf|libhiredis|lua-|libatomic)' | sort -u) || return 0
	# shellcheck disable=SC2086 # several words
	(cd "$dir" && apt-get -q download $packages && for file in ./*.deb; do dpkg -x "$file" .; done) >"$WORK/redis.log" 2>&1 || return 0
	printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s/usr/bin/redis-server "$@"\n' \
		"$(echo "$dir"/usr/lib/*-linux-gnu*)" "$dir" >"$dir/run"
	chmod -R a+rX "$dir"
	chmod a+x "$dir/run"
	"$dir/run" --version >>"$WORK/redis.log" 2>&1 || return 0
	export EDUAI_REDIS=$dir/run
}

add_pgq
add_peers
add_redis
describe_machine
start_cluster bench shared_preload_libraries=eduai eduai.database=bench fsync=on synchronous_commit=on \
	full_page_writes=on shared_buffers=2GB max_wal_size=24GB checkpoint_timeout=30min wal_level=replica \
	max_connections=200 max_worker_processes=16 max_prepared_transactions=0 autovacuum=on \
	listen_addresses=127.0.0.1
createdb bench
export PGDATABASE=bench
psql -Xq -v ON_ERROR_STOP=1 -c 'CREATE EXTENSION eduai'
describe_settings
[ -z "${EDUAI_SIMULATOR:-}" ] || start_simulator

write_server bench
export EDUAI_WORK=$WORK
run_programs "$ROOT/test/bench" "${BENCH:-}"
