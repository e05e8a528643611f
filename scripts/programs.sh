# shellcheck shell=bash
# For bench.sh, soak.sh and fuzz.sh, after lib.sh.

# run_programs DIRECTORY "NAME ...": builds what its Makefile builds, then runs
# every NAME.sh, NAME.py and bin/NAME there, or those named. Goes on after one
# that failed, and fails at the end, as it does when there was none to run.
run_programs()
{
	local dir=$1 wanted=$2 program name status passed=0 failed=0 started
	[ ! -f "$dir/Makefile" ] || make -C "$dir" -s all PG_CONFIG="$PG_CONFIG"
	for program in "$dir"/*.sh "$dir"/*.py "$dir"/bin/*; do
		[ -f "$program" ] || continue
		[ -x "$program" ] || continue
		name=$(basename "$program")
		name=${name%.sh}
		name=${name%.py}
		[ -z "$wanted" ] || [[ " $wanted " == *" $name "* ]] || continue
		printf '\n== %s\n' "$name"
		status=0
		started=$SECONDS
		(cd "$ROOT" && "$program") </dev/null || status=$?
		printf '== %s took %d s%s\n' "$name" $((SECONDS - started)) "$([ "$status" = 0 ] || echo ", failed with status $status")"
		if [ "$status" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
	done
	printf '\n%d passed, %d failed\n' "$passed" "$failed"
	[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}
