#!/usr/bin/env bash
# make lint: the house rules, one script each in test/lint. A rule gets the root
# of a tree, prints what breaks it, a line each, and fails if there was any.
# Every rule is first run over test/lint/fixtures/RULE, which breaks it: a rule
# that does not notice is itself a failure.
#
#   lint.sh [RULE ...]

. "$(dirname "$0")/lib.sh"

RULES="rooms includes compat sizes symbols settings sql versions neutral cppcheck shell format"
[ $# -eq 0 ] || RULES=$*

SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT
passed=0
failed=0

# sees_fixture RULE: in a copy, with objects where the rule reads those.
sees_fixture()
{
	local fixture=$ROOT/test/lint/fixtures/$1 tree=$SCRATCH/$1
	[ -d "$fixture" ] || { echo "lint: no fixture for $1"; return 1; }
	cp -r "$fixture" "$tree"
	if [ "$1" = symbols ]; then
		find "$tree" -name '*.c' -execdir gcc -c {} \;
	fi
	! "$ROOT/test/lint/$1.sh" "$tree" >"$SCRATCH/$1.log" 2>&1 && [ -s "$SCRATCH/$1.log" ]
}

for rule in $RULES; do
	[ -x "$ROOT/test/lint/$rule.sh" ] || die "unknown rule \"$rule\""
	if sees_fixture "$rule"; then
		passed=$((passed + 1))
	else
		echo "not ok: $rule does not notice its fixture"
		failed=$((failed + 1))
	fi
	if "$ROOT/test/lint/$rule.sh" "$ROOT" >"$SCRATCH/$rule.out" 2>&1; then
		echo "ok: $rule"
		passed=$((passed + 1))
	else
		echo "not ok: $rule"
		failed=$((failed + 1))
	fi
	sed 's/^/    /' "$SCRATCH/$rule.out"
done

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
