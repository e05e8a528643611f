#!/usr/bin/env bash
# make soak: every program of test/soak in turn for SOAK_SECONDS (600) each,
# against a private server and a simulated provider; what they find there is as
# bench.sh describes. SOAK="name" chooses; SEED repeats a run.

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
start_cluster soak shared_preload_libraries=eduai eduai.database=soak shared_buffers=512MB max_connections=200 \
	max_worker_processes=16 max_prepared_transactions=8 log_min_messages=warning
createdb soak
export PGDATABASE=soak
psql -Xq -v ON_ERROR_STOP=1 -c 'CREATE EXTENSION eduai'
[ -z "${EDUAI_SIMULATOR:-}" ] || start_simulator

export EDUAI_WORK=$WORK EDUAI_DATA=$WORK/soak/data SOAK_SECONDS=${SOAK_SECONDS:-600} SEED=${SEED:-$RANDOM}
echo "seed:     $SEED"
status=0
run_programs "$ROOT/test/soak" "${SOAK:-}" || status=$?
if grep -hE 'PANIC|terminated by signal|TRAP:' "$WORK/soak/log"; then
	echo "the server crashed"
	status=1
fi
exit "$status"
