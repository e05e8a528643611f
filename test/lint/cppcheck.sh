#!/usr/bin/env bash
# Static analysis of src/ and the test programs, with the macros of cppcheck.h
# in place of PostgreSQL's headers.
set -euo pipefail
macros=$(dirname "$(readlink -f "$0")")/cppcheck.h
cd "$1"
check()
{
	cppcheck --quiet --std=c11 --language=c --enable=warning,portability --inline-suppr --error-exitcode=1 -j "$(nproc)" \
		--template='{file}:{line}: {severity}: {message} [{id}]' \
		--suppress=missingInclude --suppress=missingIncludeSystem --suppress=unknownMacro \
		--suppress=normalCheckLevelMaxBranches "$@"
}
bad=0
mapfile -t sources < <(find src -name '*.c' | sort)
[ ${#sources[@]} -eq 0 ] || check -Isrc --include="$macros" "${sources[@]}" || bad=1
[ ! -d test ] || mapfile -t sources < <(find test -path test/lint -prune -o -name '*.c' -print | sort)
[ ! -d test ] || [ ${#sources[@]} -eq 0 ] || check "${sources[@]}" || bad=1
exit $bad
