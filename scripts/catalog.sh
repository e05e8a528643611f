#!/usr/bin/env bash
# What the catalog must look like once the extension is created, and that it
# comes and goes: the checks of test/lint/catalog.sql, then DROP and CREATE
# again, then every upgrade path against a fresh install.
# Uses the private installation of its caller (test.sh) or makes its own.

. "$(dirname "$0")/lib.sh"

make_work
if [ -z "${PG_BIN:-}" ]; then
	need_pg
	build_extension
	copy_pg
	install_extension
fi

PASSED=0
FAILED=0
ok() { PASSED=$((PASSED + 1)); }
not_ok() { echo "not ok: $*"; FAILED=$((FAILED + 1)); }
query() { psql -XAtq -v ON_ERROR_STOP=1 -d "$1" -c "$2"; }

# The catalog as text.
catalog_of()
{
	psql -XAtq -v ON_ERROR_STOP=1 -d "$1" -f "$ROOT/test/lint/describe.sql" | sort
}

start_cluster catalog "shared_preload_libraries=eduai" "eduai.database=eduai_catalog" max_worker_processes=16 max_connections=40
createdb eduai_catalog

if query eduai_catalog 'CREATE EXTENSION eduai' >"$WORK/create.log" 2>&1; then ok; else
	cat "$WORK/create.log"
	not_ok "CREATE EXTENSION eduai"
	echo "$PASSED passed, $FAILED failed"
	exit 1
fi
if [ "$(query eduai_catalog "SELECT count(*) FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'eduai')")" -gt 0 ]; then ok; else
	not_ok "the extension owns nothing"
fi

# Rows of (rule, object): every rule is one check, its rows are what breaks it.
psql -XAtq -F '	' -v ON_ERROR_STOP=1 -d eduai_catalog -f "$ROOT/test/lint/catalog.sql" >"$WORK/rules" 2>&1 || { cat "$WORK/rules"; not_ok "catalog.sql"; }
while IFS= read -r rule; do
	if grep -q "^$rule	" "$WORK/rules"; then
		not_ok "$rule"
		sed -n "s/^$rule	/    /p" "$WORK/rules"
	else
		ok
	fi
done < <(sed -n "s/^-- RULE //p" "$ROOT/test/lint/catalog.sql")

# It leaves nothing behind and can be created again. The workers notice a DROP
# by themselves.
catalog_of eduai_catalog >"$WORK/fresh"
if query eduai_catalog 'DROP EXTENSION eduai' >"$WORK/drop.log" 2>&1; then ok; else cat "$WORK/drop.log"; not_ok "DROP EXTENSION eduai"; fi
query eduai_catalog 'DROP SCHEMA IF EXISTS eduai' >/dev/null 2>&1 || true
left=$(query eduai_catalog "SELECT count(*) FROM pg_namespace WHERE nspname = 'eduai'")
if [ "$left" = 0 ]; then ok; else not_ok "something is left in schema eduai after DROP EXTENSION"; fi
if query eduai_catalog 'CREATE EXTENSION eduai' >"$WORK/create.log" 2>&1; then ok; else cat "$WORK/create.log"; not_ok "CREATE EXTENSION after DROP EXTENSION"; fi
catalog_of eduai_catalog >"$WORK/again"
if diff -u "$WORK/fresh" "$WORK/again"; then ok; else not_ok "created again, the catalog differs"; fi

# Upgrades: from each version whose script is kept in test/upgrade.
for old in "$ROOT"/test/upgrade/eduai--*.sql; do
	[ -f "$old" ] || continue
	version=${old##*--}
	version=${version%.sql}
	install -m 644 "$old" "$(pg_config --sharedir)/extension/"
	createdb "upgrade_$version"
	if query "upgrade_$version" "CREATE EXTENSION eduai VERSION '$version'; ALTER EXTENSION eduai UPDATE" >"$WORK/upgrade.log" 2>&1 &&
		catalog_of "upgrade_$version" >"$WORK/upgraded" && diff -u "$WORK/fresh" "$WORK/upgraded"; then
		ok
	else
		cat "$WORK/upgrade.log"
		not_ok "upgrade from $version"
	fi
done

echo "$PASSED passed, $FAILED failed"
[ "$FAILED" -eq 0 ]
