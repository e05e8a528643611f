#!/usr/bin/env bash
# What is not static is exported, so it carries its room's prefix: reads the
# objects that are built. The fmgr's entry points and what PostgreSQL looks for
# by name carry eduai_ alone; other SQL-callable functions are known by their
# info record.
set -euo pipefail
cd "$1"
mapfile -t objects < <(find src -name '*.o' | sort | while read -r object; do [ ! -f "${object%.o}.c" ] || echo "$object"; done)
if [ ${#objects[@]} -eq 0 ]; then
	[ -z "$(find src -name '*.c')" ] || { echo "no objects: run make first"; exit 1; }
	exit 0
fi
nm -A -g --defined-only "${objects[@]}" | awk '
	{
		object = $1; sub(/:[0-9a-f]*$/, "", object)
		kind = $(NF - 1); name = $NF
		if (name ~ /^pg_finfo_/) { sql[object, substr(name, 10)] = 1; next }
		if (kind ~ /^[TDBRCVW]$/) { n++; objects[n] = object; names[n] = name }
	}
	END {
		for (i = 1; i <= n; i++) {
			name = names[i]
			if (name ~ /^(_PG_init|_PG_fini|_PG_output_plugin_init|Pg_magic_func|__odr_asan.*|__asan.*|eduai_sql_.*)$/) continue
			room = objects[i]; sub(/^src\//, "", room)
			prefix = "eduai_"
			if (sub(/\/.*/, "", room)) prefix = prefix room "_"
			if (index(name, prefix) == 1) continue
			if (index(name, "eduai_") == 1 && (objects[i], name) in sql) continue
			print objects[i] ": " name " is exported without the prefix " prefix
			bad = 1
		}
		exit bad
	}'
