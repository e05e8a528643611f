#!/usr/bin/env bash
# Files are clean: no trailing blanks, no conflict markers, a newline at the
# end, and no absolute path of somebody's machine.
set -euo pipefail
cd "$1"
bad=0
fail() { echo "$*"; bad=1; }
files() { find . -type f \( -name '*.[ch]' -o -name '*.sql' -o -name '*.sh' -o -name '*.p[lm]' -o -name '*.md' -o -name '*.spec' -o -name '*.py' -o -name Makefile \) \
	-not -path './.git/*' -not -path './test/lint/fixtures/*' -not -path './tmp_check/*' -not -path './results/*' -not -path './.cache/*' -not -name 'eduai--*.sql' | sort; }
while read -r file; do
	if grep -nE '[[:blank:]]+$' "$file" | head -3 | sed "s|^|$file:|" | grep .; then fail "$file: blanks at the end of a line"; fi
	if grep -nE '^(<<<<<<<|>>>>>>>) ' "$file"; then fail "$file: conflict marker"; fi
	if grep -nE '(^|[^[:alnum:]_$}])/(work|home|root)/[[:alnum:]]' "$file"; then fail "$file: a path of one machine"; fi
	[ -z "$(tail -c 1 "$file")" ] || fail "$file: no newline at the end"
done < <(files)
exit $bad
