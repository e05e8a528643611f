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

# The sanitizer starts at the first malloc and asks for translated messages as it
# does. Where that malloc is a library's own bindtextdomain() call, made when it
# is loaded, the lock of the message catalogs is taken twice and the server hangs
# before main(). So another first malloc comes before every library's start.
mkdir "$WORK/first"
cat >"$WORK/first/first.c" <<'C'
#include <stdlib.h>
static void *volatile block;
__attribute__((constructor)) static void
begin(void)
{
	block = malloc(1);
}
C
gcc -shared -fPIC -Wl,-z,initfirst -o "$WORK/first/first.so" "$WORK/first/first.c"

# Under the name of the script, which a restart then runs again.
install -d -o "$RUN_USER" "$WORK/reports"
wrap_postgres "LD_PRELOAD=\"$(gcc -print-file-name=libasan.so) $WORK/first/first.so\${LD_PRELOAD:+ \$LD_PRELOAD}\" \\
	ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:log_path=$WORK/reports/asan:detect_odr_violation=0 \\
	UBSAN_OPTIONS=print_stacktrace=1:log_path=$WORK/reports/ubsan:abort_on_error=1 \\
	exec -a \"\$0\" \"\$real\" \"\$@\""

# Reports are a suite of their own: what a test did not notice still counts.
# AddressSanitizer writes to files, UndefinedBehaviourSanitizer to the log.
suite_reports()
{
	local report reports=0
	for report in "$WORK"/reports/*; do
		[ -s "$report" ] || continue
		reports=$((reports + 1))
		head -n 60 "$report"
	done
	for report in "$WORK"/tree/tmp_check/log/*.log; do
		grep -hE -A 12 'runtime error:' "$report" 2>/dev/null || continue
		reports=$((reports + 1))
	done
	close_suite reports "$([ "$reports" = 0 ] && echo 1 || echo 0)" "$reports"
}

run_suites "${SUITES:-regress isolation tap} reports"
