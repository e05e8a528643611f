# shellcheck shell=bash
# The test suites: sourced by test.sh and by what runs some of them elsewhere,
# after lib.sh, with WORK, WORK/tree and PG_BIN in place. Each suite calls
# close_suite NAME PASSED FAILED.

# What a server's log says of a crash, or of what a sanitizer has found.
CRASHED='PANIC:|terminating any other active server processes|TRAP:|runtime error:|Sanitizer:'
# Seconds after which a suite that hangs is ended, and so failed.
SUITE_LIMIT=${SUITE_LIMIT:-900}

close_suite()
{
	echo "$2 $3" >>"$WORK/totals"
	printf '%s: %d passed, %d failed\n' "$1" "$2" "$3"
}

# run_suites "NAME ..." ...: all of them whatever fails, then the total. The
# suites of an argument run one after the other, the arguments at the same time;
# what a suite prints comes when it has ended. A run in which nothing ran has
# failed.
run_suites()
{
	local row rows=() started=$SECONDS
	: >"$WORK/totals"
	# In process groups of their own: what ends this script ends them whole.
	set -m
	for row in "$@"; do
		run_row "$row" &
		rows+=($!)
		CHILDREN+=("-$!")
	done
	set +m
	for row in "${rows[@]}"; do
		wait "$row" || echo "0 1" >>"$WORK/totals"
	done
	printf '\n%s\n' "all suites took $((SECONDS - started)) s"
	awk '{ passed += $1; failed += $2 }
		END { printf "%d passed, %d failed\n", passed, failed; exit failed > 0 || passed == 0 }' "$WORK/totals"
}

run_row()
{
	local suite started
	for suite in $1; do
		started=$SECONDS
		"suite_$suite" >"$WORK/suite.$suite" 2>&1
		{
			flock 9
			printf '\n== %s, %d s\n' "$suite" $((SECONDS - started))
			cat "$WORK/suite.$suite"
		} 9>>"$WORK/printing"
	done
}

# Counts the lines of FILE that match an extended regular expression.
count() { grep -cE "$1" "$2" || true; }

# names DIRECTORY EXTENSION: the tests there that TESTS lets through, sorted,
# without the extension.
names()
{
	local name
	{ find "$1" -maxdepth 1 -name "*.$2" -printf '%f\n' 2>/dev/null || true; } | sort | while read -r name; do
		name=${name%".$2"}
		[ -z "${TESTS:-}" ] || [[ " $TESTS " == *" $name "* ]] || continue
		printf '%s\n' "$name"
	done
}

# count_tool_log NAME LOG STATUS: reads the output of a program that prints
# "N passed, N failed" last; one that ended badly has failed at least once.
count_tool_log()
{
	local name=$1 log=$2 status=$3 line passed=0 failed=0
	line=$(grep -oE '[0-9]+ passed, [0-9]+ failed' "$log" | tail -1 || true)
	if [ -n "$line" ]; then
		read -r passed _ failed _ <<<"$line"
	fi
	if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
		echo "$name ended with status $status"
		failed=1
	fi
	close_suite "$name" "$passed" "$failed"
}

suite_lint()
{
	local status=0
	"$ROOT/scripts/lint.sh" >"$WORK/lint.log" 2>&1 </dev/null || status=$?
	grep -vE '^([a-z]+: )?[0-9]+ passed, [0-9]+ failed$' "$WORK/lint.log" || true
	count_tool_log lint "$WORK/lint.log" "$status"
}

# The provider simulator's own test.
suite_provider()
{
	local status=0
	if [ ! -f "$ROOT/test/provider/selftest.sh" ]; then
		echo "no test/provider/selftest.sh"
		close_suite provider 0 0
		return
	fi
	(cd "$WORK/tree/test/provider" && as_user timeout --foreground "$SUITE_LIMIT" bash ./selftest.sh) >"$WORK/provider.log" 2>&1 </dev/null || status=$?
	grep -vE '^([a-z]+: )?[0-9]+ passed, [0-9]+ failed$' "$WORK/provider.log" | tail -60 || true
	count_tool_log provider "$WORK/provider.log" "$status"
}

# The soak's judge of what readers saw, over stories that are not true.
suite_soak()
{
	local status=0
	(cd "$WORK/tree/test/soak" && as_user timeout --foreground "$SUITE_LIMIT" make -s check PG_CONFIG="$PG_CONFIG") >"$WORK/soak.log" 2>&1 </dev/null || status=$?
	grep -vE '^([a-z]+: )?[0-9]+ passed, [0-9]+ failed$' "$WORK/soak.log" | tail -60 || true
	count_tool_log soak "$WORK/soak.log" "$status"
}

# count_pg_regress NAME LOG STATUS: the lines of pg_regress, in the form of 15
# ("test a ... ok") and of 16 and later ("ok 1 - a").
count_pg_regress()
{
	local name=$1 log=$2 status=$3 passed failed
	passed=$(count '^ok [0-9]+ |^(test|    ) .*\.\.\. ok ' "$log")
	failed=$(count '^not ok [0-9]+ |^(test|    ) .*\.\.\. (FAILED|failed) ?' "$log")
	if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then
		echo "$name ended with status $status"
		tail -40 "$log"
		find "$WORK/tree/log" -name '*.log' -exec tail -n 40 {} + 2>/dev/null || true
		failed=1
	fi
	if [ "$failed" -gt 0 ] && [ -f "$WORK/tree/regression.diffs" ]; then
		echo "-- regression.diffs"
		head -n 1000 "$WORK/tree/regression.diffs"
	fi
	# A server that crashed may look like one failed test, or like none.
	if grep -hE "$CRASHED" "$WORK/tree/log/postmaster.log" 2>/dev/null; then
		echo "$name: the server crashed"
		failed=$((failed + 1))
	fi
	close_suite "$name" "$passed" "$failed"
}

# accept_results LOG: with UPDATE=1, what the failed tests printed becomes their
# expected output in the checkout, to be read before it is committed.
accept_results()
{
	local name
	mkdir -p "$ROOT/expected"
	sed -nE 's/^(test|    ) ([a-z0-9_]+) .*\.\.\. FAILED.*/\2/p; s/^not ok [0-9]+ +[-+] ([a-z0-9_]+) .*/\1/p' "$1" | while read -r name; do
		[ ! -f "$WORK/tree/results/$name.out" ] || { cp "$WORK/tree/results/$name.out" "$ROOT/expected/"; echo "written: expected/$name.out"; }
	done
}

# expect_something NAME...: pg_regress gives up the whole run at a test without
# an expected output; an empty one makes it that test's failure.
expect_something()
{
	local name
	mkdir -p "$WORK/tree/expected"
	for name in "$@"; do
		[ -f "$WORK/tree/expected/$name.out" ] || [ -f "$WORK/tree/expected/${name}_1.out" ] ||
			{ echo "$name has no expected output"; : >"$WORK/tree/expected/$name.out"; }
	done
	chmod -R a+rX "$WORK/tree/expected"
}

# make_master_key FILE: what eduai.master_key_file may name.
make_master_key()
{
	[ ! -f "$1" ] || return 0
	# shellcheck disable=SC2016 # expanded by the inner shell
	as_user sh -c 'umask 077; echo "test $(head -c 32 /dev/urandom | base64)" >"$1"' sh "$1"
}

# run_pg_regress NAME PROGRAM DATABASE ARGUMENT...
run_pg_regress()
{
	local name=$1 program=$2 database=$3 status=0
	shift 3
	printf "eduai.database = '%s'\n" "$database" >"$WORK/$name.conf"
	printf "eduai.master_key_file = '%s'\n" "$WORK/master.key" >>"$WORK/$name.conf"
	make_master_key "$WORK/master.key"
	cat ${EXTRA_CONF:+"$EXTRA_CONF"} </dev/null >>"$WORK/$name.conf"
	chmod 644 "$WORK/$name.conf"
	rm -rf "$WORK/tree/log" "$WORK/tree/regression.diffs"
	(cd "$WORK/tree" && as_user timeout --foreground "$SUITE_LIMIT" "$program" --temp-instance="$WORK/$name" --temp-config=test/regress.conf \
		--temp-config="$WORK/$name.conf" --bindir="$PG_BIN" --inputdir=test --outputdir=. --encoding=UTF8 \
		--no-locale --dbname="$database" --load-extension=eduai "$@") >"$WORK/$name.log" 2>&1 </dev/null || status=$?
	grep -E '^(#? ?(test|parallel|not ok|ok)|    ) ?.*' "$WORK/$name.log" || true
	count_pg_regress "$name" "$WORK/$name.log" "$status"
	[ "${UPDATE:-0}" != 1 ] || accept_results "$WORK/$name.log"
	rm -rf "${WORK:?}/$name"
}

# Every test/sql/*.sql, in sorted order and one at a time; those that
# test/schedule lists run first, in its (parallel) groups.
suite_regress()
{
	local tests scheduled=" " name
	mapfile -t tests < <(names "$WORK/tree/test/sql" sql)
	if [ ${#tests[@]} -eq 0 ]; then
		echo "no test in test/sql"
		close_suite regress 0 0
		return
	fi
	expect_something "${tests[@]}"
	: >"$WORK/schedule"
	if [ -z "${TESTS:-}" ] && [ -f "$WORK/tree/test/schedule" ]; then
		grep '^test:' "$WORK/tree/test/schedule" >"$WORK/schedule"
		scheduled=" $(sed 's/^test://' "$WORK/schedule" | tr '\n' ' ') "
	fi
	for name in "${tests[@]}"; do
		[[ $scheduled == *" $name "* ]] || echo "test: $name" >>"$WORK/schedule"
	done
	chmod 644 "$WORK/schedule"
	run_pg_regress regress "$PG_PGXS/src/test/regress/pg_regress" eduai_regress --schedule="$WORK/schedule"
}

suite_isolation()
{
	local specs
	mapfile -t specs < <(names "$WORK/tree/test/specs" spec)
	if [ ${#specs[@]} -eq 0 ]; then
		echo "no test in test/specs"
		close_suite isolation 0 0
		return
	fi
	expect_something "${specs[@]}"
	run_pg_regress isolation "$PG_PGXS/src/test/isolation/pg_isolation_regress" eduai_isolation "${specs[@]}"
}

# make_template: a data directory as most TAP tests want it, made once, and in
# front of the path an initdb that copies it when it is asked for just that.
make_template()
{
	local arguments="-A trust -N --encoding=UTF8 --no-locale"
	# shellcheck disable=SC2086 # words
	as_user "$PG_BIN/initdb" -D "$WORK/template" $arguments >"$WORK/template.log" 2>&1 ||
		{ cat "$WORK/template.log"; return 1; }
	mkdir -p "$WORK/first-in-path"
	cat >"$WORK/first-in-path/initdb" <<-INITDB
		#!/bin/bash
		if [ -n "\${EDUAI_TEMPLATE:-}" ] && [ "\$1" = -D ] && [ "\${*:3}" = "$arguments" ] && [ ! -e "\$2" ]; then
			exec cp -a "\$EDUAI_TEMPLATE" "\$2"
		fi
		exec "$PG_BIN/initdb" "\$@"
	INITDB
	chmod 755 "$WORK/first-in-path" "$WORK/first-in-path/initdb"
}

# Its files wait more than they work: by default five at a time for two cores.
suite_tap()
{
	local status=0 files
	mapfile -t files < <(names "$WORK/tree/test/tap" pl | sed 's|.*|test/tap/&.pl|')
	if [ ${#files[@]} -eq 0 ]; then
		echo "no test in test/tap"
		close_suite tap 0 0
		return
	fi
	make_template
	(
		cd "$WORK/tree"
		# TESTDIR is 15's name for what later versions call the other two.
		export PG_REGRESS=$PG_PGXS/src/test/regress/pg_regress TESTDIR=$WORK/tree \
			TESTDATADIR=$WORK/tree/tmp_check TESTLOGDIR=$WORK/tree/tmp_check/log PGPORT=65432 \
			EDUAI_TEMPLATE=$WORK/template PATH=$WORK/first-in-path:$PATH
		as_user timeout --foreground "$SUITE_LIMIT" perl "$WORK/tree/scripts/prove.pl" "${TAP_JOBS:-$(($(nproc) * 2))}" "$PG_PGXS/src/test/perl" test/tap "${files[@]}"
	) >"$WORK/tap.log" 2>&1 </dev/null || status=$?
	grep -vE '^([a-z]+: )?[0-9]+ passed, [0-9]+ failed$' "$WORK/tap.log" || true
	if [ "$status" -ne 0 ]; then show_tap_logs; fi
	count_tool_log tap "$WORK/tap.log" "$status"
}

# The ends of the logs of the failed files: the test's own, then its servers'.
show_tap_logs()
{
	local name log
	sed -n 's/^FAILED FILE: //p' "$WORK/tap.log" | while read -r name; do
		name=$(basename "$name" .pl)
		for log in "$WORK/tree/tmp_check/log/regress_log_$name" "$WORK/tree/tmp_check/log/${name}"_*.log; do
			[ -f "$log" ] || continue
			printf -- '-- %s\n' "$(basename "$log")"
			tail -n 60 "$log"
		done
	done
}

# What the catalog must look like once the extension is created.
suite_catalog()
{
	local status=0
	"$ROOT/scripts/catalog.sh" >"$WORK/catalog.log" 2>&1 </dev/null || status=$?
	grep -vE '^([a-z]+: )?[0-9]+ passed, [0-9]+ failed$' "$WORK/catalog.log" || true
	count_tool_log catalog "$WORK/catalog.log" "$status"
}
