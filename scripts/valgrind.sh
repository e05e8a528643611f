#!/usr/bin/env bash
# make valgrind: the regress suite with the server under memcheck; slow, so
# TESTS="a b" is worth giving. The package's server does not tell valgrind about
# its memory contexts: what is found is what malloc's blocks show. An error
# counts when a function of eduai is on its stack; the server's own (padding
# written to files, for one) are passed over.

. "$(dirname "$0")/lib.sh"
. "$ROOT/scripts/suites.sh"

"$ROOT/scripts/setup.sh" test bench
need_pg
make_work
build_extension
copy_pg
install_extension
copy_tree

install -d -o "$RUN_USER" "$WORK/reports"
wrap_postgres "exec valgrind --quiet --leak-check=no --num-callers=40 --vgdb=no --trace-children=no \\
	--error-limit=no --suppressions='$WORK/tree/test/valgrind.supp' --log-file='$WORK/reports/%p' \"\$real\" \"\$@\""

# Waiting in terms of a machine thirty times slower.
export PGCTLTIMEOUT=600
SUITE_LIMIT=${SUITE_LIMIT:-7200}
EXTRA_CONF=$WORK/valgrind.conf
printf 'statement_timeout = 0\nauthentication_timeout = 600s\nautovacuum = off\n' >"$EXTRA_CONF"

suite_reports()
{
	# Errors are paragraphs; the same one seen by many processes counts once.
	cat "$WORK"/reports/* 2>/dev/null | perl -00 -ne '
		s/^==\d+== ?//mg;
		for my $error (split /\n\s*\n/) {
			next unless $error =~ /\beduai_\w+/ && !$seen{ join "", $error =~ /: (\S+ \(.*?\))/g }++;
			print "$error\n\n"; $errors++;
		}
		END { print "ERRORS ", $errors // 0, "\n" }' >"$WORK/errors"
	grep -v '^ERRORS' "$WORK/errors" | head -n 300 || true
	local errors
	errors=$(sed -n 's/^ERRORS //p' "$WORK/errors")
	close_suite reports "$([ "$errors" = 0 ] && echo 1 || echo 0)" "$errors"
}

run_suites "regress reports"
