#!/usr/bin/env bash
# make soak: every program of test/soak in turn for SOAK_SECONDS (300) each,
# against a private server that keeps what it promises (fsync on) and a simulated
# provider; what they find there is as bench.sh describes, and EDUAI_SERVER, a
# program that starts ("start") and stops ("stop") the server. SOAK="name" chooses;
# SEED repeats a run's choices; each program's first lines name its own settings.

. "$(dirname "$0")/lib.sh"
. "$ROOT/scripts/programs.sh"

"$ROOT/scripts/setup.sh" test
need_pg
make_work
build_extension
build_simulator
copy_pg
install_extension

describe_machine
start_cluster soak shared_preload_libraries=eduai eduai.database=soak eduai.test_mode=on fsync=on \
	shared_buffers=512MB max_wal_size=4GB max_connections=200 max_locks_per_transaction=256 max_pred_locks_per_transaction=2048 \
	max_worker_processes=16 max_prepared_transactions=8 log_min_messages=warning log_min_error_statement=fatal
createdb soak
export PGDATABASE=soak
psql -Xq -v ON_ERROR_STOP=1 -c 'CREATE EXTENSION eduai'
[ -z "${EDUAI_SIMULATOR:-}" ] || start_simulator

write_server soak
export EDUAI_WORK=$WORK EDUAI_DATA=$WORK/soak/data
export SOAK_SECONDS=${SOAK_SECONDS:-300} SEED=${SEED:-$RANDOM}
echo "seed:     $SEED"
status=0
run_programs "$ROOT/test/soak" "${SOAK:-}" || status=$?
# A program may kill (9); nothing may fall by itself.
if grep -hE 'PANIC|terminated by signal ([^9]|9[0-9])|TRAP:' "$WORK/soak/log"; then
	echo "the server crashed"
	status=1
fi
exit "$status"
