#!/usr/bin/env bash
# One version everywhere: Makefile, control file, META.json (twice) and the
# newest entry of the CHANGELOG.
set -euo pipefail
cd "$1"
version=$(sed -n 's/^EXTVERSION = //p' Makefile)
bad=0
same() { [ "$2" = "$version" ] || { echo "$1 says \"$2\", the Makefile \"$version\""; bad=1; }; }

same eduai.control "$(sed -n "s/^default_version = '\(.*\)'/\1/p" eduai.control)"
while read -r found; do same META.json "$found"; done < <(sed -n 's/^ *"version": "\([0-9][^"]*\)",*$/\1/p' META.json | grep -v '^1\.0\.0$' || echo none)
[ ! -f CHANGELOG.md ] || same CHANGELOG.md "$(sed -n 's/^## *\[*v*\([0-9][0-9.]*[0-9]\).*/\1/p' CHANGELOG.md | head -1)"
exit $bad
