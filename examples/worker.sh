#!/usr/bin/env bash
# A worker for eduai's queue: worker.sh CONNECTION TASK_TYPE [LEASE_SECONDS]
# Needs psql and jq; put your own work into work().
set -uo pipefail

connection=$1 type=$2 lease="${3:-30} s" name=$(uname -n)-$$ stop=
trap 'stop=yes' TERM INT # ends after the task at hand

work() # PAYLOAD: prints the result, or fails and prints why
{
	sleep "$(jq -r '.seconds // 0' <<<"$1")"
	jq -ce '{text: (.text // error("no text") | ascii_upcase)}' <<<"$1" 2>&1
}

query() # name=value ...: runs the SQL of its input; 9 when the attempt is no longer ours
{
	local settings=() error out
	for setting; do settings+=(-v "$setting"); done
	exec 3>&1
	error=$(psql -XAtq -v ON_ERROR_STOP=1 -v VERBOSITY=sqlstate "${settings[@]}" -d "$connection" -f - 2>&1 >&3)
	out=$?
	case $error in *UE009*) return 9 ;; '') return $out ;; *) printf '%s\n' "$error" >&2; return 1 ;; esac
}

while [ -z "$stop" ]; do
	claim=$(query name="$name" type="$type" lease="$lease" <<<"SELECT task_id, attempt, payload
		FROM eduai.claim_tasks(:'name', ARRAY[:'type'], lease => :'lease', wait => '2 s')") || { sleep 1; continue; }
	[ -n "$claim" ] || continue
	IFS='|' read -r task attempt payload <<<"$claim"
	(while sleep "$(jq -n "${lease% s} / 3")"; do
		query task="$task" attempt="$attempt" lease="$lease" <<<"SELECT eduai.extend_lease(:task, :attempt, :'lease')" >/dev/null || break
	done) &
	beats=$!
	if result=$(work "$payload"); then
		end="SELECT eduai.complete_task(:task, :attempt, :'result')"
	else
		end="SELECT eduai.fail_task(:task, :attempt, :'result')"
	fi
	{ kill "$beats" && wait "$beats"; } 2>/dev/null
	query task="$task" attempt="$attempt" result="$result" <<<"$end" >/dev/null
	[ $? -ne 9 ] || echo "task $task: attempt $attempt is no longer ours"
done
