#!/usr/bin/env bash
# make fuzz: builds test/fuzz and runs each fuzzer for FUZZ_SECONDS (30). A
# fuzzer is test/fuzz/bin/NAME (built by its Makefile), NAME.sh or NAME.py; it
# reads SEED and FUZZ_SECONDS and fails when it finds something. FUZZ="name"
# chooses.

. "$(dirname "$0")/lib.sh"
. "$ROOT/scripts/programs.sh"

"$ROOT/scripts/setup.sh" base bench
need_pg
make_work
export EDUAI_WORK=$WORK FUZZ_SECONDS=${FUZZ_SECONDS:-30} SEED=${SEED:-$RANDOM}
echo "seed: $SEED"
run_programs "$ROOT/test/fuzz" "${FUZZ:-}"
