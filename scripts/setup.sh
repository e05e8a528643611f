#!/usr/bin/env bash
# Installs what is missing, by apt: setup.sh [base|test|lint|bench|fresh|all] ...
#
#   base   build, install, demo (the default)      lint    make lint, make format
#   test   make test                               bench   make bench, fuzz, valgrind
#   fresh  make test-fresh, test-pg17, test-pg18
#
# Silent and without a look at the network when nothing is missing. PGVERSION
# asks for a major version; otherwise one that is installed, 15 if the archive
# has it, or the archive's own.

set -euo pipefail
export DEBIAN_FRONTEND=noninteractive LC_ALL=C

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# "a|b" is satisfied by either and installs the first that the archive has.
BASE='gcc libc6-dev make pkg-config|pkgconf postgresql-@ postgresql-server-dev-@ postgresql-@-cron
	libcurl4-openssl-dev libssl-dev libzstd-dev zlib1g-dev libevent-dev libpq-dev util-linux perl curl'
TEST='libipc-run-perl python3 python3-psycopg2 jq openssl'
LINT='clang-format-14|clang-format cppcheck shellcheck'
BENCH='valgrind python3'
FRESH='debootstrap'

# No grep -q at the end of a pipe: what it cuts off would count as a failure.
installed() { [[ " $(dpkg-query -W -f '${db:Status-Status} ' "$1" 2>/dev/null)" == *" installed "* ]]; }
available() { [ -n "$(apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: \([^(]\)/\1/p')" ]; }

UPDATED=
update()
{
	[ -n "$UPDATED" ] || as_root apt-get -q -o Acquire::Retries=3 update >"$LOG" 2>&1 ||
		{ cat "$LOG" >&2; die "apt-get update failed"; }
	UPDATED=yes
}

as_root()
{
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo -n env DEBIAN_FRONTEND=noninteractive "$@"
	fi
}

# The first alternative that is installed; fails if none is.
satisfied()
{
	local name names
	IFS='|' read -ra names <<<"$1"
	for name in "${names[@]}"; do installed "$name" && return 0; done
	return 1
}

choice()
{
	local name names
	IFS='|' read -ra names <<<"$1"
	for name in "${names[@]}"; do available "$name" && { echo "$name"; return 0; }; done
	return 1
}

choose_version()
{
	local version
	[ -z "${PGVERSION:-}" ] || { echo "$PGVERSION"; return; }
	for version in 15 18 17 16; do
		installed "postgresql-$version" && installed "postgresql-server-dev-$version" && { echo "$version"; return; }
	done
	for version in 15 18 17 16; do installed "postgresql-$version" && { echo "$version"; return; }; done
	update
	for version in 15 17 16 18; do available "postgresql-$version" && { echo "$version"; return; }; done
	die "the archive has no PostgreSQL from 15 to 18"
}

# A server package makes and starts a cluster when it is installed. Where no
# server was before, nobody asked for one.
CLUSTER_CONF=/etc/postgresql-common/createcluster.d/no-main-cluster.conf
hold_back_cluster()
{
	[ -z "$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 'postgresql-[0-9]*' 2>/dev/null |
		grep -E '^installed postgresql-[0-9]+$')" ] || return 0
	[ ! -e "$CLUSTER_CONF" ] || return 0
	trap 'as_root rm -f "$CLUSTER_CONF"; rm -f "$LOG"' EXIT
	as_root mkdir -p "${CLUSTER_CONF%/*}"
	echo 'create_main_cluster = false' | as_root tee "$CLUSTER_CONF" >/dev/null
}

# The package that examples/worker.js needs, where npm is: its test says what is
# missing otherwise. Nothing else needs it, so that failing here fails nothing.
NODE_DIR=$(cd "$(dirname "$0")/.." && pwd)/.cache/node
get_node_client()
{
	case " $* " in *" test "*|*" all "*) ;; *) return 0 ;; esac
	[ ! -d "$NODE_DIR/node_modules/pg" ] || return 0
	command -v npm >/dev/null || { say "no npm here: the example of a worker for Node is not tested"; return 0; }
	mkdir -p "$NODE_DIR"
	timeout 120 npm install --silent --no-audit --no-fund --prefix "$NODE_DIR" pg@8 >/dev/null 2>&1 </dev/null ||
		say "npm could not install pg: the example of a worker for Node is not tested"
}

[ $# -gt 0 ] || set -- base
get_node_client "$@"
if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
	for tool in gcc make pkg-config perl curl; do
		command -v $tool >/dev/null || die "$tool is missing, and without apt (Debian, Ubuntu) it cannot be installed from here; CONTRIBUTING.md lists what is needed"
	done
	say "no apt here: going on with what is installed; CONTRIBUTING.md lists what is needed"
	exit 0
fi

LOG=$(mktemp)
trap 'rm -f "$LOG"' EXIT

wanted=
for group in "$@"; do
	case $group in
		base) wanted+=" $BASE" ;;
		test) wanted+=" $BASE $TEST" ;;
		lint) wanted+=" $LINT" ;;
		bench) wanted+=" $BASE $BENCH" ;;
		fresh) wanted+=" $FRESH" ;;
		all) wanted+=" $BASE $TEST $LINT $BENCH" ;;
		*) die "unknown group \"$group\"" ;;
	esac
done
case $wanted in *@*) version=$(choose_version); wanted=${wanted//@/$version} ;; esac

missing=()
for package in $wanted; do
	satisfied "$package" || [[ " ${missing[*]-} " == *" $package "* ]] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
	die "missing: ${missing[*]}; run this once as root: scripts/setup.sh $*"
fi

update
chosen=() nowhere=()
for package in "${missing[@]}"; do
	if name=$(choice "$package"); then chosen+=("$name"); else nowhere+=("$package"); fi
done
[ ${#nowhere[@]} -eq 0 ] || die "the archive does not have: ${nowhere[*]}"

hold_back_cluster
say "installing ${chosen[*]}"
as_root apt-get -q -y --no-install-recommends -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 \
	-o Dpkg::Use-Pty=0 install "${chosen[@]}" >"$LOG" 2>&1 </dev/null ||
	{ tail -40 "$LOG" >&2; die "could not install ${chosen[*]}"; }
for package in "${chosen[@]}"; do
	installed "$package" || nowhere+=("$package")
done
[ ${#nowhere[@]} -eq 0 ] || die "not installed after all: ${nowhere[*]}"
