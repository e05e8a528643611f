#!/usr/bin/env bash
# test-version.sh MAJOR: compiles the working tree with -Werror against another
# major version, in a Debian that has it, and runs the suites that need only
# that server (SUITES to choose). The folder is kept for the next time.

. "$(dirname "$0")/lib.sh"
. "$ROOT/scripts/chroot.sh"

major=${1:?usage: test-version.sh MAJOR}
case $major in
	15) suite=bookworm ;;
	17) suite=trixie ;;
	18) suite=forky ;;
	*) die "no Debian release known that has PostgreSQL $major" ;;
esac

need_chroot
make_base "$suite"
root=$BASES/pg$major
if [ ! -d "$root" ]; then
	rm -rf "$root.partial"
	cp -a "$BASES/$suite" "$root.partial"
	mv "$root.partial" "$root"
fi
share_network "$root"
copy_checkout "$root"
enter "$root" env PGVERSION="$major" scripts/setup.sh test
enter "$root" env PGVERSION="$major" SUITES="${SUITES:-regress isolation tap catalog}" ${TESTS:+TESTS="$TESTS"} scripts/test.sh
