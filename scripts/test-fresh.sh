#!/usr/bin/env bash
# make test-fresh: what a newcomer does, on a Debian that has git and make and
# nothing else: clone the committed HEAD, then "make demo" and "make test", each
# twice (the second run finds everything installed). Prints the times.
#
#   WORKTREE=1   take the working tree with its uncommitted changes instead
#   SUITE=trixie another Debian than bookworm

. "$(dirname "$0")/lib.sh"
. "$ROOT/scripts/chroot.sh"

need_chroot
suite=${SUITE:-bookworm}
make_base "$suite"

root=$(mktemp -d /var/tmp/eduai-fresh-XXXXXX)
trap 'rm -rf --one-file-system "$root"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
cp -a "$BASES/$suite/." "$root/"
share_network "$root"
if [ "${WORKTREE:-0}" = 1 ]; then
	copy_checkout "$root"
else
	git -C "$ROOT" rev-parse -q --verify HEAD >/dev/null || die "nothing is committed yet; WORKTREE=1 takes the working tree"
	git clone --quiet --no-hardlinks "$ROOT" "$root/srv/eduai"
fi

failed=0
times=()
# step NAME COMMAND...: timed, its output indented.
step()
{
	local name=$1 started=$SECONDS status=0
	shift
	say "$name"
	enter "$root" "$@" 2>&1 | sed 's/^/    /' || status=$?
	times+=("$(printf '%-24s %4d s  %s' "$name" $((SECONDS - started)) "$([ "$status" = 0 ] && echo ok || echo "failed ($status)")")")
	[ "$status" = 0 ] || failed=$((failed + 1))
}

for run in 1 2; do
	# One step: what demo leaves running would end with the step.
	step "make demo, run $run" bash -c 'make demo && make demo-stop'
	step "make test, run $run" make test
done

printf '%s\n' "${times[@]}"
echo "$((${#times[@]} - failed)) passed, $failed failed"
[ "$failed" -eq 0 ]
