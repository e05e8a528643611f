# shellcheck shell=bash
# For demo.sh, after steps.sh: the Open University's learning analytics data
# (OULAD) as events, when DATA names its folder.

ASSESSMENTS=studentAssessment.csv.gz

step_replay()
{
	local rows
	step "A real course's log: the OULAD data as events"
	if [ -z "${DATA:-}" ]; then
		tell "Skipped: DATA=path/to/oulad names a folder with $ASSESSMENTS and assessments.csv."
		return
	fi
	if [ ! -r "$DATA/$ASSESSMENTS" ] || [ ! -r "$DATA/assessments.csv" ]; then
		tell "Skipped: no $ASSESSMENTS and assessments.csv in $DATA."
		return
	fi
	rows=$(($(gzip -dc "$DATA/$ASSESSMENTS" | wc -l) - 1))
	tell "$(grouped "$rows") assessments, in the order of their days, by eduai.append_batch()" \
		"in batches of 1,000, a transaction each:"
	sql school -f "$HERE/replay.sql"
	load_csv assessment <"$DATA/assessments.csv"
	gzip -dc "$DATA/$ASSESSMENTS" | load_csv submission
	sql school -c 'CALL oulad_prepare()'
	replay_and_watch "$rows"
	check_replay "$rows"
	tell "The ten learners with most events:"
	table school -f "$HERE/learners.sql"
}

# load_csv TABLE: CSV with a header, from standard input.
load_csv() { sql school -c "COPY oulad.$1 FROM STDIN (FORMAT csv, HEADER)"; }

replay_and_watch()
{
	local begun ended done status=0 replay
	begun=$(date +%s%N)
	sql school -c 'CALL oulad.replay(1000)' &
	replay=$!
	while kill -0 "$replay" 2>/dev/null; do
		sleep 1
		done=$(sql school -c 'SELECT coalesce(sum(events), 0) FROM oulad.batch')
		ended=$(date +%s%N)
		progress "$(printf '%3d s   %7s events   %6s/s' $(((ended - begun) / 1000000000)) "$(grouped "$done")" \
			"$(grouped $((done * 1000 / ((ended - begun) / 1000000))))")"
	done
	wait "$replay" || status=$?
	ended=$(date +%s%N)
	progress_end
	[ "$status" = 0 ] || die "the replay failed"
	printf '  %s%s events/s%s, one session, events and progress\n' "$BOLD" \
		"$(grouped $(($1 * 1000 / ((ended - begun) / 1000000))))" "$PLAIN"
}
