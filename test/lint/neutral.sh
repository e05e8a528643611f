#!/usr/bin/env bash
# Files are clean: no trailing blanks, no conflict markers, a newline at the
# end, and no absolute path of somebody's machine.
set -euo pipefail
cd "$1"
bad=0
mapfile -t files < <(find . -type f \( -name '*.[ch]' -o -name '*.sql' -o -name '*.sh' -o -name '*.p[lm]' -o -name '*.md' -o -name '*.spec' -o -name '*.py' -o -name Makefile \) \
	-not -path './.git/*' -not -path './test/lint/fixtures/*' -not -path './tmp_check/*' -not -path './results/*' -not -path './.cache/*' -not -name 'eduai--*.sql' | sort)
# no WHAT GREP-ARGUMENT...: what grep prints of the files is wrong
no()
{
	local what=$1
	shift
	if grep "$@" "${files[@]}" /dev/null | sed "s|\$|: $what|" | grep .; then bad=1; fi
}
no 'blanks at the end of a line' -nE '[[:blank:]]+$'
no 'conflict marker' -nE '^(<<<<<<<|>>>>>>>) '
no 'a path of one machine' -nE '(^|[^[:alnum:]_$}])/(work|home|root)/[[:alnum:]]'
no 'no newline at the end' -lPz '[^\n]\z'
exit $bad
