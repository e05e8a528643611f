-- The tables that the two files are loaded into, and the replay. Owned by the
-- application's role: it uses eduai as any application does.

CREATE SCHEMA oulad;

CREATE TABLE oulad.assessment (
	module text NOT NULL,
	presentation text NOT NULL,
	assessment int PRIMARY KEY,
	type text NOT NULL,
	due_day numeric,
	weight numeric
);

CREATE TABLE oulad.submission (
	assessment int NOT NULL,
	learner int NOT NULL,
	day int NOT NULL,
	banked int NOT NULL,
	score numeric
);

CREATE TABLE oulad.event (
	n bigint PRIMARY KEY,
	user_id text NOT NULL,
	data jsonb NOT NULL,
	occurred_at timestamptz NOT NULL
);

CREATE TABLE oulad.learner (
	user_id text PRIMARY KEY,
	rows bigint NOT NULL
);

-- What was appended so far: a row per batch, committed with it.
CREATE TABLE oulad.batch (
	batch bigint PRIMARY KEY,
	events bigint NOT NULL
);

-- A presentation begins in February (B) or October (J) of its year. Scores of
-- 0 to 100 become 0 to 1: as a percentage, 1 of 100 would read as 1. Pass is 40.
CREATE PROCEDURE oulad.prepare() LANGUAGE sql
BEGIN ATOMIC
	INSERT INTO oulad.event (n, user_id, data, occurred_at)
	SELECT row_number() OVER (ORDER BY day, learner, assessment), learner,
		jsonb_strip_nulls(jsonb_build_object('skill', module, 'assessment', assessment, 'type', type,
			'score', trim_scale(score / 100), 'correct', score >= 40)),
		day
	FROM (
		SELECT s.learner::text, a.module, s.assessment, a.type, s.score,
			make_timestamptz(substr(a.presentation, 1, 4)::int,
				CASE substr(a.presentation, 5) WHEN 'B' THEN 2 ELSE 10 END, 1, 0, 0, 0, 'UTC') + s.day * interval '1 day' AS day
		FROM oulad.submission s JOIN oulad.assessment a USING (assessment)
	) AS submitted;
	INSERT INTO oulad.learner (user_id, rows)
	SELECT learner::text, count(*) FROM oulad.submission GROUP BY learner;
END;

CREATE PROCEDURE oulad.replay(batch_size int) LANGUAGE plpgsql AS $$
DECLARE
	batches bigint := (SELECT ceil(count(*)::numeric / batch_size) FROM oulad.event);
BEGIN
	FOR this_batch IN 1 .. batches LOOP
		INSERT INTO oulad.batch
		SELECT this_batch, eduai.append_batch(
			array_agg('learner-' || user_id ORDER BY n),
			array_agg('exercise_completed'::text),
			array_agg(data ORDER BY n),
			array_agg(user_id ORDER BY n),
			occurred_at => array_agg(occurred_at ORDER BY n))
		FROM oulad.event
		WHERE n > (this_batch - 1) * batch_size AND n <= this_batch * batch_size;
		COMMIT;
	END LOOP;
END $$;
