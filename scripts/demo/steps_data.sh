# shellcheck shell=bash
# For demo.sh, after steps.sh: limits, the cache, and what privacy means.

step_limits()
{
	local allowed
	step "A limit that is exact"
	show <<-'SQL'
		SELECT eduai.require_rate('pupil-ana', 'public');   -- UE002 beyond 100 an hour
	SQL
	allowed=$(sql school -c "SELECT count(*) FILTER (WHERE eduai.rate_ok('pupil-ana', 'public')) FROM generate_series(1, 150)")
	check "of 150 requests admitted, in a transaction" "$allowed" 100
	sql school <<-'SQL' >/dev/null
		BEGIN;
		SELECT eduai.rate_ok('pupil-ben', 'public') FROM generate_series(1, 60);
		ROLLBACK;
	SQL
	check "left for another after 60 that rolled back" \
		"$(sql school -c "SELECT remaining FROM eduai.rate_peek('pupil-ben', 'public')")" 40
}

# computed KIND: how often cached_query computed so far.
computed() { sql school -c "SELECT computations FROM eduai.cache_stats WHERE kind = '$1'"; }

step_cache()
{
	local before
	step "A cache that is never stale"
	show <"$HERE/cache.sql"
	sql school -f "$HERE/cache.sql" >/dev/null
	before=$(computed progress)
	sql school -f "$HERE/cache.sql" >/dev/null
	check "computations when it is asked again" "$(($(computed progress) - before))" 0
	sql school -c "INSERT INTO answer (learner, item, answer) VALUES ('ana', 'd-18', '0.5')"
	check "after an INSERT, the cached answer and the table" \
		"$(sql school -f "$HERE/cache.sql")" "$(sql school -c "SELECT jsonb_build_array(jsonb_build_object('n', count(*))) FROM answer WHERE learner = 'ana'")"
	tell "Nobody said what it depends on: the tables were found in the query's plan."
}

step_privacy()
{
	local files
	step "A learner's words are sealed; an erasure destroys the key"
	show <"$HERE/sealed.sql"
	sql school -f "$HERE/sealed.sql" >/dev/null
	tell "What the application reads, and what is in the table:"
	table school -c "SELECT data ->> 'answer' AS answer FROM eduai.read_stream('learner-zoe')"
	table postgres -c "SELECT left(data ->> 'answer', 60) || ' ...' AS stored FROM eduai.event WHERE stream = 'learner-zoe'"
	sql postgres -c "CHECKPOINT"
	files=$({ grep -rlaF "my cat is called Pirate" "$WORK/demo/data" || true; } | wc -l)
	check "files of the data directory, WAL included, that hold the words" "$files" 0
	show <<-'SQL'
		SELECT eduai.erase_user('zoe', 'the parents asked');
	SQL
	sql postgres -c "SELECT eduai.erase_user('zoe', 'the parents asked')" >/dev/null
	wait_erased
	check "events of zoe" "$(sql school -c "SELECT count(*) FROM eduai.read_stream('learner-zoe')")" 0
	check "events of ana are there" "$(sql school -c "SELECT count(*) > 0 FROM eduai.read_stream('learner-ana')")" t
	check "and a new one about zoe" \
		"$(sql school -c "SELECT eduai.publish_event('skill_mastered', 'zoe', 's')" 2>&1 | grep -o 'the learner was erased' | head -1)" \
		"the learner was erased"
}

# wait_erased: until the keeper is done.
wait_erased()
{
	local tries
	for tries in {1..300}; do
		[ "$(sql postgres -c 'SELECT count(*) FROM eduai.erasure_status WHERE completed_at IS NULL')" != 0 ] || return 0
		sleep 0.1
	done
	bad "the erasure is not complete after 30 s ($tries looks)"
}
