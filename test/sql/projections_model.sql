-- The learner model in the database: predictions follow the answers, the same
-- answers give the same rows, bit by bit, whatever the batches and however often.
\pset format unaligned
\pset tuples_only on
\set VERBOSITY sqlstate
CREATE ROLE regress_proj_model;
CREATE ROLE regress_proj_model_reader;
CREATE ROLE regress_proj_model_nobody;
GRANT eduai_app TO regress_proj_model;
GRANT USAGE ON SCHEMA eduai TO regress_proj_model_nobody;
GRANT eduai_reader TO regress_proj_model_reader;
SELECT eduai.allow_tenant('regress_proj_model', t) FROM unnest(ARRAY['proj_model', 'proj_model_b']) t;
SELECT eduai.allow_tenant('regress_proj_model_reader', 'proj_model');
-- waits until the learner model has followed all events of the tenant
CREATE FUNCTION pg_temp.wait_for(tenant text, upto bigint) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
	deadline timestamptz := clock_timestamp() + '60 s';
BEGIN
	WHILE NOT EXISTS (SELECT FROM eduai.projection_position p
			WHERE p.tenant_id = tenant AND p.projection = 2 AND p.position >= upto
			AND p.generation = coalesce((SELECT live FROM eduai.projection_generation WHERE projection = 2), 1)) LOOP
		IF clock_timestamp() > deadline THEN
			RAISE 'the learner model does not follow';
		END IF;
		PERFORM pg_sleep(0.005);
	END LOOP;
END $$;
CREATE FUNCTION pg_temp.followed() RETURNS void LANGUAGE sql AS
	'SELECT pg_temp.wait_for(eduai.current_tenant(), max("position")) FROM eduai.read_all(max_count => 10000)';
-- the rows of a tenant in the live generation, without its name and the generation
CREATE FUNCTION pg_temp.kept(tenant text) RETURNS TABLE (kind text, kept text) LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
	kind text;
BEGIN
	FOREACH kind IN ARRAY ARRAY['tenant', 'learner', 'skill', 'item', 'learner_skill', 'learner_item'] LOOP
		RETURN QUERY EXECUTE format('SELECT %L, (to_jsonb(r) - ''tenant_id'' - ''generation'')::text FROM eduai.model_%s r'
			' WHERE tenant_id = %L AND generation = coalesce((SELECT live FROM eduai.projection_generation WHERE projection = 2), 1)'
			' ORDER BY 2', kind, kind, tenant);
	END LOOP;
END $$;
-- 300 answers of 7 learners in 3 skills, some without an item, times not in order
CREATE VIEW pg_temp.answers AS
	SELECT n, 'l' || n % 7 AS who, '2024-03-01Z'::timestamptz + n * interval '5 hours' - (n % 4) * interval '7 hours' AS at,
		jsonb_strip_nulls(jsonb_build_object('skill', 's' || (n / 7) % 3, 'item', CASE WHEN n % 5 > 0 THEN 'i' || n % 11 END,
			'correct', (n * n) % 10 < 6, 'time_spent', CASE WHEN n % 2 = 0 THEN n % 40 + 0.25 END, 'hints', n % 3)) AS data
	FROM generate_series(1, 300) n;
GRANT SELECT ON pg_temp.answers TO regress_proj_model;

SET ROLE regress_proj_model;
SET eduai.tenant = 'proj_model';
-- nobody yet: one prediction for all who are not known
SELECT count(DISTINCT p), min(p) > 0.3, max(p) < 0.95 FROM (VALUES ('ana', 's', 'i'), ('ben', 'other', NULL), ('ana', 's', NULL)) v (who, s, i),
	eduai.learner_prediction(who, s, i) p;

-- right answers raise it, wrong ones lower it
SELECT max(version) FROM generate_series(1, 6) n,
	eduai.append_event('x' || n, 'exercise_attempted', '{"skill": "up", "item": "1", "correct": true}', 'up');
SELECT max(version) FROM generate_series(1, 6) n,
	eduai.append_event('x' || n, 'exercise_attempted', '{"skill_name": "up", "exercise": 2, "correct": false}', 'down');
-- no answers: no skill, no verdict, nobody
SELECT eduai.publish_event('exercise_attempted', 'idle', NULL, data) IS NOT NULL FROM unnest(ARRAY[
	'{"correct": true}', '{"skill": "up"}', '{"skill": "up", "correct": "yes"}', '{"skill": "", "correct": true}', '{}']::jsonb[]) data;
SELECT version FROM eduai.append_event('y', 'exercise_attempted', '{"skill": "up", "correct": true}');
SELECT version FROM eduai.append_event('y', 'any_type', '{"skill": "up", "correct": true, "item": ""}', 'typed');
SELECT pg_temp.followed();
SELECT up.p > new.p, new.p > down.p, up.p - down.p > 0.2, easy.p > hard.p FROM eduai.learner_prediction('up', 'up') AS up (p),
	eduai.learner_prediction('new', 'up') AS new (p), eduai.learner_prediction('down', 'up') AS down (p),
	eduai.learner_prediction('new', 'up', '1') AS easy (p), eduai.learner_prediction('new', 'up', '2') AS hard (p);
RESET ROLE;
SELECT user_id, answers, correct FROM eduai.model_learner WHERE tenant_id = 'proj_model' ORDER BY 1;
SELECT user_id, item, answers, correct FROM eduai.model_learner_item WHERE tenant_id = 'proj_model' ORDER BY 1, 2;
SELECT answers, learners, first_correct FROM eduai.model_skill WHERE tenant_id = 'proj_model';
SELECT item, answers, correct, learners FROM eduai.model_item WHERE tenant_id = 'proj_model' ORDER BY 1;
SELECT answers, correct FROM eduai.model_tenant WHERE tenant_id = 'proj_model';
SET ROLE regress_proj_model;

-- within 0 and 1 whatever they do
SELECT eduai.append_batch(array_agg('z'::text), array_agg('exercise_attempted'::text),
	array_agg(jsonb_build_object('skill', 'up', 'item', 'z', 'correct', n % 2 = 0)),
	array_agg(CASE n % 2 WHEN 0 THEN 'right' ELSE 'wrong' END)) FROM generate_series(1, 1000) n;
SELECT pg_temp.followed();
SELECT p > 0 AND p < 1, p > 0.9, p < 0.1 FROM unnest(ARRAY['right', 'wrong']) WITH ORDINALITY u (who, n),
	eduai.learner_prediction(who, 'up', 'z') p ORDER BY n;

-- the other tenant knows nothing of it
SET eduai.tenant = 'proj_model_b';
SELECT eduai.learner_prediction('right', 'up', 'z') = eduai.learner_prediction('nobody', 'nothing');

-- the same answers in one batch and one by one: the same rows
RESET ROLE;
SELECT eduai.allow_tenant('regress_proj_model', t) FROM unnest(ARRAY['proj_model_one', 'proj_model_many']) t;
SET ROLE regress_proj_model;
SET eduai.tenant = 'proj_model_one';
SELECT eduai.append_batch(array_agg('s'::text), array_agg('exercise_attempted'::text), array_agg(data ORDER BY n),
	array_agg(who ORDER BY n), occurred_at => array_agg(at ORDER BY n)) FROM pg_temp.answers;
SELECT pg_temp.followed();
SET eduai.tenant = 'proj_model_many';
DO $$
DECLARE
	a record;
BEGIN
	FOR a IN SELECT * FROM pg_temp.answers ORDER BY n LOOP
		PERFORM eduai.append_event('s', 'exercise_attempted', a.data, a.who, occurred_at => a.at);
		COMMIT;
		IF a.n % 10 = 0 THEN
			PERFORM pg_temp.followed();
			COMMIT;
		END IF;
	END LOOP;
END $$;
SELECT pg_temp.followed();
RESET ROLE;
CREATE TEMP TABLE live AS SELECT 'one' AS tenant, * FROM pg_temp.kept('proj_model_one')
	UNION ALL SELECT 'many', * FROM pg_temp.kept('proj_model_many')
	UNION ALL SELECT 'all', * FROM pg_temp.kept('proj_model');
SELECT kind, count(*) FROM live WHERE tenant = 'one' GROUP BY kind ORDER BY kind;
SELECT count(*) FROM (SELECT kind, kept FROM live WHERE tenant = 'one' EXCEPT ALL SELECT kind, kept FROM live WHERE tenant = 'many') d;
SELECT count(*) FROM (SELECT kind, kept FROM live WHERE tenant = 'many' EXCEPT ALL SELECT kind, kept FROM live WHERE tenant = 'one') d;

-- parameters that are fitted hold from then on, also in a rebuild
CREATE ROLE regress_proj_model_admin;
GRANT eduai_admin TO regress_proj_model_admin;
SELECT eduai.allow_tenant('regress_proj_model_admin', 'proj_model_one');
CREATE VIEW pg_temp.more AS SELECT n, 'f' || n % 25 AS who, '2024-09-01Z'::timestamptz + n * interval '1 hour' AS at,
	jsonb_build_object('skill', 'fit', 'item', n % 10, 'correct', n / 25 > n % 5) AS data FROM generate_series(1, 150) n;
GRANT SELECT ON pg_temp.more TO regress_proj_model;
SET eduai.tenant = 'proj_model_one';
SET ROLE regress_proj_model;
SELECT eduai.append_batch(array_agg('f'::text), array_agg('exercise_attempted'::text), array_agg(data ORDER BY n),
	array_agg(who ORDER BY n), occurred_at => array_agg(at ORDER BY n)) FROM pg_temp.more;
SELECT pg_temp.followed();
SET ROLE regress_proj_model_admin;
SELECT eduai.fit_learner_model();
SET ROLE regress_proj_model;
SELECT eduai.append_batch(array_agg('f'::text), array_agg('exercise_attempted'::text), array_agg(data ORDER BY n),
	array_agg(who ORDER BY n), occurred_at => array_agg(at + interval '30 days' ORDER BY n)) FROM pg_temp.more;
SELECT pg_temp.followed();
RESET ROLE;

-- rebuilt: the same rows again, and the old ones are deleted
CREATE TEMP TABLE fitted AS SELECT 'one' AS tenant, * FROM pg_temp.kept('proj_model_one')
	UNION ALL SELECT 'many', * FROM pg_temp.kept('proj_model_many')
	UNION ALL SELECT 'all', * FROM pg_temp.kept('proj_model');
SELECT eduai.rebuild_projection('learner_model') > 1000;
CREATE TEMP TABLE rebuilt AS SELECT 'one' AS tenant, * FROM pg_temp.kept('proj_model_one')
	UNION ALL SELECT 'many', * FROM pg_temp.kept('proj_model_many')
	UNION ALL SELECT 'all', * FROM pg_temp.kept('proj_model');
SELECT count(*) FROM (TABLE fitted EXCEPT ALL TABLE rebuilt) d;
SELECT count(*) FROM (TABLE rebuilt EXCEPT ALL TABLE fitted) d;
DO $$
DECLARE
	deadline timestamptz := clock_timestamp() + '60 s';
BEGIN
	WHILE EXISTS (SELECT FROM (SELECT generation FROM eduai.model_tenant UNION ALL SELECT generation FROM eduai.model_learner
			UNION ALL SELECT generation FROM eduai.model_skill UNION ALL SELECT generation FROM eduai.model_item
			UNION ALL SELECT generation FROM eduai.model_learner_skill UNION ALL SELECT generation FROM eduai.model_learner_item) r
			WHERE generation <> (SELECT live FROM eduai.projection_generation WHERE projection = 2)) LOOP
		IF clock_timestamp() > deadline THEN
			RAISE 'retired rows are not deleted';
		END IF;
		PERFORM pg_sleep(0.005);
		COMMIT;
	END LOOP;
END $$;

-- bad input, rights and tenants
SET ROLE regress_proj_model;
SET eduai.tenant = 'proj_model';
SELECT eduai.learner_prediction(NULL, 's');
SELECT eduai.learner_prediction('ana', NULL);
SELECT eduai.learner_prediction('', 's');
SELECT eduai.learner_prediction('ana', '');
SELECT eduai.learner_prediction('ana', 's', '');
SELECT eduai.learner_prediction('ana', repeat('s', 513));
SELECT eduai.learner_prediction('ana', repeat('s', 512), NULL) > 0;
SELECT count(*) FROM eduai.model_learner;
SET eduai.tenant = 'proj_model_c';
SELECT eduai.learner_prediction('ana', 's');
SET eduai.tenant = 'proj_model';
SET ROLE regress_proj_model_reader;
SELECT eduai.learner_prediction('up', 'up') > eduai.learner_prediction('down', 'up');
SET ROLE regress_proj_model_nobody;
SET eduai.tenant = 'default';
SELECT eduai.learner_prediction('ana', 's');
RESET ROLE;
DROP VIEW pg_temp.answers, pg_temp.more;
DROP OWNED BY regress_proj_model, regress_proj_model_admin, regress_proj_model_reader, regress_proj_model_nobody;
DROP ROLE regress_proj_model, regress_proj_model_admin, regress_proj_model_reader, regress_proj_model_nobody;
