#!/usr/bin/env bash
# make test: set up, build, then every suite, the long tap beside the others.
# Each closes with a line "SUITE: N passed, N failed"; the last line is the total.
#
#   SUITES="regress tap"   only these of lint provider soak regress isolation tap catalog
#   TESTS="queue_claim"    only these tests of the regress, isolation and tap suites
#   UPDATE=1               write what failed regress and isolation tests printed to expected/
#   KEEP=1                 keep the work directory with its logs

. "$(dirname "$0")/lib.sh"
. "$ROOT/scripts/suites.sh"

SUITES=${SUITES:-lint provider soak regress isolation tap catalog}
for suite in $SUITES; do
	declare -F "suite_$suite" >/dev/null || die "unknown suite \"$suite\""
done

case " $SUITES " in
	*" lint "*) "$ROOT/scripts/setup.sh" test lint ;;
	*) "$ROOT/scripts/setup.sh" test ;;
esac
need_pg
make_work
say "PostgreSQL $("$PG_CONFIG" --version | sed 's/^PostgreSQL //'), $(nproc) cores"
build_extension
build_simulator
copy_pg
install_extension
copy_tree

case " $SUITES " in
	*" tap "*) run_suites tap "${SUITES//tap/}" ;;
	*) run_suites "$SUITES" ;;
esac
