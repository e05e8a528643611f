#!/usr/bin/env bash
# Fuzzes the decoder of compacted events: damaged blocks, with and without
# zstd's frame around them, and damaged pages of the directory. Whatever the bytes, XX001 is raised or events come back, and
# the server stays up. SEED repeats a run; FUZZ_SECONDS bounds it.

. "$(dirname "$0")/../../scripts/lib.sh"
need_pg
make_work
copy_pg
make -C "$ROOT" -s all PG_CONFIG="$PG_CONFIG" >/dev/null
install_extension
start_cluster fuzz shared_preload_libraries=eduai eduai.database=postgres eduai.test_mode=on fsync=off

status=0
as_user "$PG_BIN/psql" -XqAt -v ON_ERROR_STOP=1 -v seed="${SEED:-1}" -v seconds="${FUZZ_SECONDS:-30}" -f - <"$ROOT/test/fuzz/event_block.sql" || status=$?
if grep -E 'PANIC|terminated by signal|TRAP:' "$WORK/fuzz/log"; then status=1; fi
exit "$status"
