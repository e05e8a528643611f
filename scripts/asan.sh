#!/usr/bin/env bash
# make asan: the regress, isolation and tap suites with the library built with
# AddressSanitizer and UndefinedBehaviourSanitizer. The server itself is the
# package's, with the sanitizer loaded first: memory from malloc, the stack and
# globals are watched; within palloc's blocks only their ends are.
# Leaks are not looked for: memory contexts free in bulk.
#
#   SUITES, TESTS, KEEP as for make test

. "$(dirname "$0")/lib.sh"
. "$ROOT/scripts/suites.sh"

"$ROOT/scripts/setup.sh" test
need_pg
make_work
build_simulator
copy_pg
copy_tree

# Built in the copy, so that the checkout keeps its own objects.
say "building with sanitizers"
ROOT=$WORK/tree
make -C "$ROOT" -s clean PG_CONFIG="$PG_CONFIG"
FLAGS="-O1 -g -fsanitize=address,undefined -fno-sanitize=alignment -fno-sanitize-recover=undefined -fno-omit-frame-pointer -U_FORTIFY_SOURCE"
make -C "$ROOT" -s -j"$(nproc)" all PG_CONFIG="$PG_CONFIG" WERROR= EXTRA_CFLAGS="$FLAGS" EXTRA_LIBS="-lasan -lubsan"
make -C "$ROOT" -s install PG_CONFIG="$PG_CONFIG" WERROR= EXTRA_CFLAGS="$FLAGS" EXTRA_LIBS="-lasan -lubsan" DESTDIR="$WORK/pg" >/dev/null
chown -R "$RUN_USER" "$WORK/pg" "$WORK/tree"

install -d -o "$RUN_USER" "$WORK/reports"
wrap_postgres "LD_PRELOAD='$(gcc -print-file-name=libasan.so)' \\
	ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:log_path=$WORK/reports/asan:detect_odr_violation=0 \\
	UBSAN_OPTIONS=print_stacktrace=1:log_path=$WORK/reports/ubsan:abort_on_error=1 \\
	exec \"\$real\" \"\$@\""

# Reports are a suite of their own: a crash that a test survived still counts.
suite_reports()
{
	local report reports=0
	for report in "$WORK"/reports/*; do
		[ -s "$report" ] || continue
		reports=$((reports + 1))
		head -n 60 "$report"
	done
	close_suite reports "$([ "$reports" = 0 ] && echo 1 || echo 0)" "$reports"
}

run_suites "${SUITES:-regress isolation tap} reports"
