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

# PgQ, a peer of events_append, goes from the archive into the private copy of
# PostgreSQL only. The benchmark says that it is skipped where there is none.
add_pgq()
{
	[ -z "${BENCH:-}" ] || [[ " $BENCH " == *" events_append "* ]] || return 0
	mkdir "$WORK/pgq"
	(cd "$WORK/pgq" && apt-get -q download "postgresql-$PG_MAJOR-pgq3" && dpkg -x ./*.deb .) >"$WORK/pgq.log" 2>&1 || return 0
	cp "$WORK/pgq/usr/lib/postgresql/$PG_MAJOR"/lib/*.so "$WORK/pg$("$PG_CONFIG" --pkglibdir)"
	cp "$WORK/pgq/usr/share/postgresql/$PG_MAJOR"/extension/* "$WORK/pg$("$PG_CONFIG" --sharedir)/extension"
	chown -R "$RUN_USER" "$WORK/pg"
}

add_pgq
describe_machine
start_cluster bench shared_preload_libraries=eduai eduai.database=bench fsync=on synchronous_commit=on \
	full_page_writes=on shared_buffers=2GB max_wal_size=24GB checkpoint_timeout=30min wal_level=replica \
	max_connections=200 max_worker_processes=16 max_prepared_transactions=0 autovacuum=on
createdb bench
export PGDATABASE=bench
psql -Xq -v ON_ERROR_STOP=1 -c 'CREATE EXTENSION eduai'
describe_settings
[ -z "${EDUAI_SIMULATOR:-}" ] || start_simulator

write_server bench
export EDUAI_WORK=$WORK
run_programs "$ROOT/test/bench" "${BENCH:-}"
