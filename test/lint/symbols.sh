#!/usr/bin/env bash
# What is not static is exported, so it carries its room's prefix: reads the
# objects that are built. The fmgr's entry points and what PostgreSQL looks for
# by name carry eduai_ alone.
set -euo pipefail
cd "$1"
bad=0
seen=0
while read -r object; do
	[ -f "${object%.o}.c" ] || continue
	seen=1
	room=${object#src/}
	case $room in */*) room=${room%%/*}_ ;; *) room= ;; esac
	while read -r kind name; do
		case $name in
			_PG_init | _PG_fini | _PG_output_plugin_init | Pg_magic_func | pg_finfo_* | __odr_asan* | __asan*) continue ;;
			eduai_sql_*) continue ;;
			eduai_"$room"*) continue ;;
		esac
		# The rest of the SQL-callable functions are known by their info record.
		grep -q "^pg_finfo_$name\$" <<<"$(nm -g --defined-only "$object" | sed 's/.* //')" && [[ $name == eduai_* ]] && continue
		case $kind in
			T | D | B | R | C | V | W) echo "$object: $name is exported without the prefix eduai_$room"; bad=1 ;;
		esac
	done < <(nm -g --defined-only "$object" | sed 's/^[0-9a-f]* *//')
done < <(find src -name '*.o' | sort)
[ "$seen" = 1 ] || [ -z "$(find src -name '*.c')" ] || { echo "no objects: run make first"; bad=1; }
exit $bad
