#!/usr/bin/env bash
# make demo: a private server with the extension and a simulated provider, the
# main job before one's eyes, and then everything left running to try more.
#
#   BASE_URL=... MODEL=... API_KEY=...   a real OpenAI-compatible server instead
#                      of the simulator; PRICE_INPUT and PRICE_OUTPUT in USD per
#                      million tokens, 0 unless given
#   TASKS=20000        tasks of the throughput step (20 with BASE_URL)
#   DATA=path/to/oulad replays that data set too
#   DEMO_DIR=...       where it lives; /var/tmp/eduai-demo-USER
#   KEEP=1             keeps it running after a failure too
#
# The key goes to the server's environment and by reference into the database,
# never into SQL, an argument of a program or a log.

. "$(dirname "$0")/lib.sh"
. "$ROOT/scripts/demo/place.sh"
. "$ROOT/scripts/demo/show.sh"
. "$ROOT/scripts/demo/steps.sh"
. "$ROOT/scripts/demo/steps_data.sh"
. "$ROOT/scripts/demo/replay.sh"

SIMULATED=
[ -n "${BASE_URL:-}" ] || SIMULATED=yes
KEY=${API_KEY:-}
# DATA means something else to the makefiles of PostgreSQL.
OULAD=${DATA:-}
unset API_KEY DATA

read_options()
{
	BASE_URL=${BASE_URL:-} MODEL=${MODEL:-} PRICE_INPUT=${PRICE_INPUT:-0} PRICE_OUTPUT=${PRICE_OUTPUT:-0}
	if [ -n "$SIMULATED" ]; then
		TASKS=${TASKS:-20000}
	else
		TASKS=${TASKS:-20}
		[[ $BASE_URL == http://?* || $BASE_URL == https://?* ]] || die "BASE_URL is not http or https: $BASE_URL"
		[ -n "$MODEL" ] || die "BASE_URL needs MODEL=, the name of a chat model there"
	fi
	[[ $TASKS =~ ^[1-9][0-9]{0,5}$ ]] || die "TASKS is not a number from 1 to 999999: $TASKS"
}

introduce()
{
	printf '%seduai: the demo%s\n' "$BOLD" "$PLAIN"
	if [ -n "$SIMULATED" ]; then
		tell "A PostgreSQL of its own, and a SIMULATED provider: its answers are made up," \
			"its prices invented. Nothing leaves this machine. (BASE_URL=, MODEL= and" \
			"API_KEY= take a real one.)"
		[ -z "$MODEL$KEY" ] || tell "MODEL and API_KEY are not used: there is no BASE_URL."
	else
		tell "A PostgreSQL of its own, and the model \"$MODEL\" at $BASE_URL:" \
			"about $((TASKS + 6)) short calls, which whoever owns the key pays for."
	fi
	echo
}

# done_with WORDS: a line of the set-up, with the seconds that it took.
TOOK=$SECONDS
done_with()
{
	printf '  %-58s %4d s\n' "$*" $((SECONDS - TOOK))
	TOOK=$SECONDS
}

CLIENT=
prepare()
{
	"$ROOT/scripts/setup.sh" base 9>&-
	need_pg
	choose_user
	chown "$RUN_USER" "$WORK"
	export TMPDIR=$WORK
	! have psql || CLIENT=psql
	done_with "what is needed is installed"
	build_extension 9>&-
	[ -z "$SIMULATED" ] || build_simulator 9>&-
	done_with "built the extension$([ -z "$SIMULATED" ] || echo ' and the simulator')"
	copy_pg
	install_extension 9>&-
	[ -n "$CLIENT" ] || CLIENT=$PG_BIN/psql
}

# The server outlives this script. It alone has the key in its environment.
start_server()
{
	export EDUAI_DEMO_API_KEY=${KEY:-simulated}
	# the keys of what is sealed: outside of the data directory, the server's alone
	as_user mkdir -p -m 700 "$WORK/keys"
	printf 'demo %s\n' "$(head -c 32 /dev/urandom | base64)" | as_user tee "$WORK/keys/master" >/dev/null
	as_user chmod 600 "$WORK/keys/master"
	# health checks are requests, too: without them what is sent can be counted
	start_cluster demo shared_preload_libraries=eduai eduai.database=demo eduai.queue_max_size=0 eduai.health_interval=0 \
		eduai.master_key_file="$WORK/keys/master" eduai.key_store="$WORK/keys/learners" \
		shared_buffers=256MB max_wal_size=2GB max_worker_processes=16 track_commit_timestamp=on timezone=UTC 9>&-
	unset EDUAI_DEMO_API_KEY
	sql postgres -c 'CREATE DATABASE demo'
	export PGDATABASE=demo
	sql postgres -c 'CREATE EXTENSION eduai'
	sql postgres -c 'SELECT eduai.create_key_store()' >/dev/null
	sql postgres -f "$HERE/app.sql"
	done_with "PostgreSQL $(sql postgres -c 'SHOW server_version' | cut -d ' ' -f 1) runs at $WORK, fsync on"
}

# The simulator ends with the server.
start_provider()
{
	local port_file=$WORK/simulator.port tries
	as_user setsid "$EDUAI_SIMULATOR" --port 0 --port-file "$port_file" \
		--parent-pid "$(head -1 "$WORK/demo/data/postmaster.pid")" >"$WORK/simulator.log" 2>&1 </dev/null 9>&- &
	for tries in {1..100}; do
		[ ! -s "$port_file" ] || break
		[ "$tries" -lt 100 ] || { cat "$WORK/simulator.log" >&2; die "the simulator did not start"; }
		sleep 0.1
	done
	SIMULATOR_URL=http://127.0.0.1:$(cat "$port_file")
	curl -sSf -o "$WORK/curl.out" -d '{"key": "simulated"}' "$SIMULATOR_URL/_sim/key"
	curl -sSf -o "$WORK/curl.out" -d '{"model": "sim-tutor", "behaviour": "latency=lognormal:40:90"}' "$SIMULATOR_URL/_sim/default"
	sql postgres -v url="$SIMULATOR_URL" -f "$HERE/simulated.sql" >/dev/null
	done_with "the simulated provider runs at $SIMULATOR_URL"
}

# Private addresses are reached only where the provider says so; it says so
# only if its host is one.
address_options()
{
	local host address
	host=${BASE_URL#*://}
	host=${host%%/*}
	case $host in
		\[*) host=${host#\[} host=${host%%\]*} ;;
		*) host=${host%%:*} ;;
	esac
	address=$(getent ahosts "$host" | head -1 | cut -d ' ' -f 1) || true
	[ -n "$address" ] || die "the host of BASE_URL is not known: $host"
	case $address in
		127.* | ::1) echo '{"allow_loopback": true}' ;;
		10.* | 192.168.* | 172.1[6-9].* | 172.2[0-9].* | 172.3[01].* | 100.6[4-9].* | 100.[7-9]?.* | 100.1[01]?.* | 100.12[0-7].* | f[cd]*:*)
			echo '{"allow_private": true}' ;;
		*) echo '{}' ;;
	esac
}

add_real_provider()
{
	local options
	options=$(address_options)
	sql postgres -v url="$BASE_URL" -v model="$MODEL" -v options="$options" -v price_input="$PRICE_INPUT" \
		-v price_output="$PRICE_OUTPUT" -v key="$([ -z "$KEY" ] || echo env:EDUAI_DEMO_API_KEY)" \
		-f "$HERE/real.sql" >/dev/null
	done_with "the provider is $BASE_URL"
}

farewell()
{
	local as=
	[ -z "${SUDO_USER:-}" ] || as='sudo '
	step "Yours to try"
	tell "$([ -z "$SIMULATED" ] && echo 'The server goes' || echo 'The server and the simulator go') on running." \
		"Connect as the application's role:"
	printf '\n  %s%s%s -h %s -p %s -U school demo%s\n\n' "$BOLD" "$as" "$CLIENT" "$WORK" "$PGPORT" "$PLAIN"
	tell "and paste, for example:"
	show <"$HERE/try.sql"
	printf 'As administrator: -U postgres. The server writes its log to\n%s.\nStop and remove it all:  %s%smake demo-stop%s\n' \
		"$WORK/demo/log" "$BOLD" "$as" "$PLAIN"
}

read_options
introduce
take_demo
prepare
start_server
if [ -n "$SIMULATED" ]; then start_provider; else add_real_provider; fi
unset KEY

begun=$SECONDS
step_events
step_main_job
step_rollback
step_priorities
step_retries
step_throughput
step_replay "$OULAD"
step_limits
step_cache
step_privacy
step_ledger
step_health
[ "$FAULTS" -eq 0 ] || die "$FAULTS of the checks above failed"
printf '\nAll of this took %d s.\n' $((SECONDS - begun))
keep_demo
farewell
