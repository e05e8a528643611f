#!/usr/bin/env bash
# Every shell script passes shellcheck and starts by saying how it fails.
set -euo pipefail
cd "$1"
mapfile -t scripts < <(
	find . -path ./.git -prune -o -path ./test/lint/fixtures -prune -o -path ./tmp_check -prune -o -path ./.cache -prune -o -type f -name '*.sh' -print
	[ ! -f .ci/run ] || echo ./.ci/run
)
[ ${#scripts[@]} -eq 0 ] || shellcheck --exclude=SC1091 --format=gcc "${scripts[@]}"
