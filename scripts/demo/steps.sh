# shellcheck shell=bash
# For demo.sh, after show.sh: the steps that a person sees. Those that need the
# simulator's behaviours are skipped without it: SIMULATED is then empty.

HERE=$ROOT/scripts/demo

# await TASK_IDS SECONDS: until the tasks of the array are final.
await()
{
	local counts waited started=$SECONDS
	while :; do
		counts=$(sql school -F ' of ' -v tasks="$1" <<-'SQL'
			SELECT count(*) FILTER (WHERE finished_at IS NOT NULL), count(*)
			FROM eduai.wait_tasks(:'tasks', '1 s')
		SQL
		)
		[ "${counts% of *}" != "${counts#* of }" ] || break
		waited=$((SECONDS - started))
		if [ -n "$LIVE" ] || [ $((waited % 5)) = 0 ]; then
			progress "waiting for $waited s: $counts tasks done"
		fi
		if [ "$waited" -ge "$2" ]; then
			progress_end
			bad "after $2 s only $counts tasks are done"
			return
		fi
	done
	progress_clear
}

# Requests that the simulator received. Of a real server only the ledger tells,
# which is eduai's own word.
requests_sent()
{
	if [ -n "$SIMULATED" ]; then
		curl -sSf "$SIMULATOR_URL/_sim/stats" | sed 's/.*"requests": *\([0-9]*\).*/\1/'
	else
		sql school -c 'SELECT count(*) FROM eduai.usage_ledger'
	fi
}

step_events()
{
	local before
	step "A learner's events, and the progress they add up to"
	before=$(sql school -c "SELECT eduai.user_progress('ana')")
	show_and_run "$HERE/events.sql"
	table school -v before="$before" -v after="$(sql school -c "SELECT eduai.user_progress('ana')")" -f "$HERE/progress.sql"
	tell "Progress is folded in the very transaction that appends the event."
}

step_main_job()
{
	local task state
	step "One transaction: the event, the application's own row, the AI task"
	show_and_run "$HERE/main-job.sql"
	task=$(sql school -c 'SELECT max(task_id) FROM answer')
	await "{$task}" 150
	state=$(sql school -c "SELECT concat_ws(' ', state, error ->> 'code', error ->> 'http_status', error ->> 'message') FROM eduai.get_task($task)")
	[ "$state" = completed ] || die "the provider gave no answer: $state"
	table school -v task="$task" -f "$HERE/answer.sql"
	tell "The hint in the application's table:" \
		"\"$(sql school -c "SELECT hint FROM answer WHERE task_id = $task" | tr '\n' ' ' | sed 's/ $//')\""
	tell "What was written when the answer came:"
	table postgres -v task="$task" -f "$HERE/committed.sql"
	check "commits that wrote these rows" \
		"$(sql postgres -v task="$task" -f "$HERE/committed.sql" | cut -d '|' -f 1 | sort -u | wc -l)" 1
}

step_rollback()
{
	local before after one who="in the ledger of provider calls"
	step "A transaction that rolls back has sent nothing"
	[ -z "$SIMULATED" ] || who="received by the simulator"
	before=$(requests_sent)
	tell "Requests $who so far: $before. Now an event and 20 tasks, taken back:"
	show_and_run "$HERE/rollback.sql"
	sleep 1
	after=$(requests_sent)
	check "requests a second later" "$after" "$before"
	check "events about percentages" \
		"$(sql school -c "SELECT count(*) FROM eduai.read_stream('learner-ana') WHERE data ->> 'skill' = 'percentages'")" 0
	one=$(sql school -c "SELECT eduai.enqueue('chat', '{\"model\": \"tutor\", \"max_tokens\": 20, \"messages\": [{\"role\": \"user\", \"content\": \"This was said.\"}]}')")
	await "{$one}" 150
	if [ -n "$SIMULATED" ]; then
		check "and after a single task that committed" "$(requests_sent)" $((before + 1))
	fi
}

step_priorities()
{
	local each=3 tasks wanted="critical high normal low"
	[ -n "$SIMULATED" ] || each=1
	step "Priorities: a pool of one call at a time, the urgent ones first"
	tell "One statement enqueues $each low, $each normal, $each high and $each critical" \
		"tasks, in this order. They start in another:"
	sql postgres -c "SELECT eduai.configure_pool('chat', '{chat}', 1)" >/dev/null
	tasks=$(sql school -v each="$each" <<-'SQL'
		SELECT array_agg(task) FROM unnest('{low,normal,high,critical}'::text[]) AS priority,
			unnest(eduai.enqueue_batch('chat', array_fill(
				'{"model": "tutor", "max_tokens": 20, "messages": [{"role": "user", "content": "One word, please."}]}'::jsonb,
				ARRAY[:each]), priority)) AS task
	SQL
	)
	await "$tasks" 300
	table school -v tasks="$tasks" -f "$HERE/priorities.sql"
	check "order" "$(sql school -v tasks="$tasks" -f "$HERE/priorities.sql" | cut -d '|' -f 2 | uniq | tr '\n' ' ' | sed 's/ $//')" "$wanted"
	sql postgres -c "SELECT eduai.configure_pool('chat', '{chat}', 500)" >/dev/null
}

# one_task MODEL: enqueues a task, waits for it and shows its attempts.
one_task()
{
	local task
	task=$(sql school -v model="$1" <<-'SQL'
		SELECT eduai.enqueue('chat', jsonb_build_object('model', :'model', 'user', 'ana',
			'max_tokens', 60, 'messages', '[{"role": "user", "content": "Say it in one sentence."}]'::jsonb))
	SQL
	)
	await "{$task}" 60
	table school -v task="$task" -f "$HERE/attempts.sql"
	check "task $task after $(sql school -c "SELECT count(*) FROM eduai.usage_ledger WHERE task_id = $task") calls" \
		"$(sql school -c "SELECT state FROM eduai.get_task($task)")" completed
}

step_retries()
{
	step "Failures: a flaky model, and a provider that is down"
	if [ -z "$SIMULATED" ]; then
		tell "Skipped: only the simulator fails when it is asked to."
		return
	fi
	tell "The model \"flaky\" fails twice; the wait doubles (a second, with jitter):"
	one_task flaky
	tell "\"steady\" is served by two instances. The first answers 503, so the second," \
		"at another provider that speaks Anthropic's protocol, gets the call at once:"
	one_task steady
}

# queue_line: ready, running and ended tasks, of all so far.
queue_line()
{
	sql school -F ' ' -c 'SELECT sum(ready), sum(running), sum(completed_last_hour), sum(dead) FROM eduai.queue_status'
}

# watch_queue ENDED TASKS SECONDS: a line each second until so many more ended.
watch_queue()
{
	local ready running completed dead ended started=$SECONDS
	while :; do
		read -r ready running completed dead < <(queue_line)
		ended=$((completed + dead - $1))
		progress "$(printf '%3d s   ready %7s   running %4s   done %7s' $((SECONDS - started)) \
			"$(grouped "$ready")" "$(grouped "$running")" "$(grouped "$ended")")"
		[ "$ended" -lt "$2" ] || break
		[ $((SECONDS - started)) -lt "$3" ] || { progress_end; bad "not done after $3 s"; return; }
		sleep 1
	done
	progress_end
}

step_throughput()
{
	local requests ready running completed dead statement begun ended
	step "Throughput: $(grouped "$TASKS") tasks, up to $([ -n "$SIMULATED" ] && echo 500 || echo 10) calls at once"
	requests=$(requests_sent)
	read -r ready running completed dead < <(queue_line)
	statement=$(sed "s/:tasks/$TASKS/" "$HERE/throughput.sql")
	show <<<"$statement"
	begun=$(date +%s%N)
	sql school -c "$statement" >/dev/null
	ended=$(date +%s%N)
	tell "Enqueued in $(((ended - begun) / 1000000)) ms. Each answer is recorded with its cost, an event and the" \
		"learner's progress.$([ -z "$SIMULATED" ] || echo ' Of the 500 slots, one is kept for critical tasks.')"
	watch_queue $((completed + dead)) "$TASKS" 600
	show_rate
	check "completed tasks" "$(sql school -c "SELECT sum(completed_last_hour) - $completed FROM eduai.queue_status")" "$TASKS"
	[ -z "$SIMULATED" ] || check "requests that the simulator received" "$(($(requests_sent) - requests))" "$TASKS"
	check "events from their answers" \
		"$(sql postgres -c "SELECT count(*) FROM eduai.event WHERE event_type = 'ai_feedback_given' AND user_id LIKE 'pupil-%'")" "$TASKS"
}

# Of the tasks of throughput.sql, from the first call to the last recorded answer.
show_rate()
{
	local rate
	rate=$(sql postgres <<-'SQL'
		SELECT to_char(count(*) / extract(epoch FROM max(finished_at) - min(started_at)), 'FM999,990.0')
		FROM eduai.task WHERE user_id LIKE 'pupil-%' AND state = 'completed'
	SQL
	)
	printf '  %s%s tasks/s%s%s\n' "$BOLD" "$rate" "$PLAIN" \
		"$([ -z "$SIMULATED" ] || echo " on $(nproc) cores that the simulator shares")"
}

step_ledger()
{
	step "The ledger: what all of it cost"
	if [ -n "$SIMULATED" ]; then
		tell "The prices are invented."
	elif [ "$PRICE_INPUT$PRICE_OUTPUT" = 00 ]; then
		tell "No prices were given (PRICE_INPUT, PRICE_OUTPUT), so there are only tokens."
	fi
	table postgres -f "$HERE/totals.sql"
}

step_health()
{
	step "Health"
	table school -f "$HERE/health.sql"
	check "problems" "$(sql school -c "SELECT coalesce(string_agg(code || ': ' || detail, '; '), 'none') FROM eduai.health_problems()")" none
}
