#!/usr/bin/env bash
# make bench-balancer: the balancing algorithms over ten scenarios, beside a
# clairvoyant, and what a decision costs. Needs no server.
#
#   SEEDS=30 FIRST_SEED=1001   the runs of each cell
#   LOAD=100                   requests, in percent of the scenarios'
#   ROUNDS=9                   of the decisions that are timed

. "$(dirname "$0")/lib.sh"

"$ROOT/scripts/setup.sh" base bench
need_pg
make_work
make -C "$ROOT/test/bench" -s bin/gateway_balancer PG_CONFIG="$PG_CONFIG"
install -m 755 "$ROOT/test/bench/bin/gateway_balancer" "$WORK/balancer"
describe_machine
as_user "$WORK/balancer"
