# shellcheck shell=bash
# For demo.sh, after steps.sh: the Open University's learning analytics data
# (OULAD) as events, when make demo is given its folder.

ASSESSMENTS=studentAssessment.csv.gz

# step_replay FOLDER
step_replay()
{
	local rows folder=$1
	step "A real course's log: the OULAD data as events"
	if [ -z "$folder" ]; then
		tell "Skipped: DATA=path/to/oulad names a folder with $ASSESSMENTS and assessments.csv."
		return
	fi
	if [ ! -r "$folder/$ASSESSMENTS" ] || [ ! -r "$folder/assessments.csv" ]; then
		tell "Skipped: no $ASSESSMENTS and assessments.csv in $folder."
		return
	fi
	rows=$(($(gzip -dc "$folder/$ASSESSMENTS" | wc -l) - 1))
	tell "$(grouped "$rows") assessments, in the order of their days, by eduai.append_batch()" \
		"in batches of 1,000, a transaction each:"
	sql school -f "$HERE/replay.sql"
	load_csv assessment due_day <"$folder/assessments.csv"
	gzip -dc "$folder/$ASSESSMENTS" | load_csv submission score
	sql school -c 'CALL oulad.prepare()'
	replay_and_watch "$rows"
	check_replay "$rows"
	tell "The ten learners with most events:"
	table school -f "$HERE/learners.sql"
}

# load_csv TABLE COLUMN: CSV with a header, from standard input; an empty value
# of that column, quoted or not, is none.
load_csv() { sql school -c "COPY oulad.$1 FROM STDIN (FORMAT csv, HEADER, FORCE_NULL ($2))"; }

replay_and_watch()
{
	local begun ended events status=0 replay
	begun=$(date +%s%N)
	sql school -c 'CALL oulad.replay(1000)' &
	replay=$!
	while kill -0 "$replay" 2>/dev/null; do
		sleep 1
		events=$(sql school -c 'SELECT coalesce(sum(events), 0) FROM oulad.batch')
		ended=$(date +%s%N)
		progress "$(printf '%3d s   %7s events   %6s/s' $(((ended - begun) / 1000000000)) "$(grouped "$events")" \
			"$(grouped $((events * 1000 / ((ended - begun) / 1000000))))")"
	done
	wait "$replay" || status=$?
	ended=$(date +%s%N)
	progress_end
	[ "$status" = 0 ] || die "the replay failed"
	printf '  %s%s events/s%s, one session, events and progress\n' "$BOLD" \
		"$(grouped $(($1 * 1000 / ((ended - begun) / 1000000))))" "$PLAIN"
}

check_replay()
{
	check "events in the log" \
		"$(sql postgres -c "SELECT count(*) FROM eduai.event WHERE event_type = 'exercise_completed' AND data ? 'assessment'")" "$1"
	check "learners" "$(sql postgres -c "SELECT count(DISTINCT user_id) FROM eduai.event WHERE data ? 'assessment'")" \
		"$(sql school -c 'SELECT count(*) FROM oulad.learner')"
	check "learners whose exercises_completed is not their number of rows" "$(sql school -f "$HERE/unequal.sql")" 0
}
