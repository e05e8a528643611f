-- A school's cache, in the patterns that RevEd Kids had in Redis: recommendations
-- for 15 minutes, progress for an hour, the hierarchy of exercises for a day, and
-- what is about one pupil forgotten when that pupil answers.
--
-- Nothing invalidates by hand: an answer is a plain UPDATE, from wherever it comes.
-- Run it with psql in a database that has eduai.

CREATE SCHEMA school;

CREATE TABLE school.exercise (
	exercise_id int PRIMARY KEY,
	level text NOT NULL,
	module text NOT NULL,
	title text NOT NULL,
	active boolean NOT NULL DEFAULT true
);

CREATE TABLE school.progress (
	student_id int NOT NULL,
	exercise_id int NOT NULL REFERENCES school.exercise,
	success_rate int NOT NULL DEFAULT 0,
	attempts int NOT NULL DEFAULT 0,
	PRIMARY KEY (student_id, exercise_id)
);

-- Who writes a pupil's rows concerns what depends on that pupil, and nobody else.
SELECT eduai.cache_watch('school.progress', ARRAY['student:{student_id}']);

-- 15 minutes
CREATE FUNCTION school.recommendations(student_id int) RETURNS jsonb LANGUAGE sql AS $$
	SELECT eduai.cached_query($q$
		SELECT e.exercise_id, e.title, coalesce(p.success_rate, 0) AS success_rate
		FROM school.exercise e
		LEFT JOIN (SELECT * FROM school.progress WHERE student_id = $1) p USING (exercise_id)
		WHERE e.active AND coalesce(p.success_rate, 0) < 80
		ORDER BY success_rate DESC, e.exercise_id
		LIMIT 5
	$q$, ARRAY[student_id::text], kind => 'recommendations')
$$;

-- an hour
CREATE FUNCTION school.progress_of(student_id int) RETURNS jsonb LANGUAGE sql AS $$
	SELECT eduai.cached_query($q$
		SELECT count(*) AS exercises, sum(attempts) AS attempts, round(avg(success_rate)) AS success_rate
		FROM school.progress WHERE student_id = $1
	$q$, ARRAY[student_id::text], kind => 'progress')
$$;

-- 24 hours
CREATE FUNCTION school.hierarchy(level text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT eduai.cached_query($q$
		SELECT module, jsonb_agg(title ORDER BY exercise_id) AS exercises
		FROM school.exercise WHERE level = $1 AND active GROUP BY module ORDER BY module
	$q$, ARRAY[level], kind => 'hierarchy')
$$;

CREATE FUNCTION school.answer(student_id int, exercise_id int, success_rate int) RETURNS void LANGUAGE sql AS $$
	INSERT INTO school.progress AS p VALUES ($1, $2, $3, 1)
	ON CONFLICT ON CONSTRAINT progress_pkey DO UPDATE SET success_rate = excluded.success_rate, attempts = p.attempts + 1
$$;

INSERT INTO school.exercise
SELECT i, CASE WHEN i % 2 = 0 THEN 'CP' ELSE 'CE1' END, 'module ' || i % 5, 'exercise ' || i FROM generate_series(1, 40) i;
