-- The application's own tables: an erasure takes the learner's rows and nobody
-- else's, says what refuses, by table, and is complete when that is mended.
-- None of the tables' code runs as eduai's owner.
\set VERBOSITY sqlstate
SET client_min_messages = warning;
CREATE ROLE regress_school;
CREATE ROLE regress_clerk;
GRANT eduai_app, eduai_admin TO regress_school, regress_clerk;
SELECT eduai.allow_tenant('regress_school', 'tables'), eduai.allow_tenant('regress_clerk', 'tables');
CREATE SCHEMA school AUTHORIZATION regress_school;
GRANT USAGE ON SCHEMA school TO regress_clerk;
SET eduai.tenant = 'tables';
SET ROLE regress_school;

-- code that must not run as anybody but its owner
CREATE FUNCTION school.spy() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	IF current_user NOT IN ('regress_school', 'regress_clerk') THEN
		RAISE EXCEPTION 'ran as another';
	END IF;
	RETURN true;
END $$;
CREATE DOMAIN school.digits AS text CHECK (school.spy() AND VALUE ~ '^[0-9]+$');

-- Whose rows: places of tables that inherit, ids that a cast would cut short or refuse.
CREATE TABLE school.person (who text, note text);
CREATE TABLE school.teacher () INHERITS (school.person);
INSERT INTO school.person VALUES ('ann-1', 'hers');
INSERT INTO school.teacher VALUES ('bea', 'another''s'), ('ann-1', 'hers'), ('cleo', 'another''s');
CREATE TABLE school.short (who varchar(3));
INSERT INTO school.short VALUES ('ann'), ('bea');
CREATE TABLE school.padded (who char(8));
INSERT INTO school.padded VALUES ('ann-1'), ('ann');
CREATE TABLE school.letters (who "char");
INSERT INTO school.letters VALUES ('a');
CREATE TABLE school.digit (who school.digits);
INSERT INTO school.digit VALUES ('7');
CREATE TABLE school.number (who int);
INSERT INTO school.number VALUES (1);
SELECT eduai.register_personal_data(t, 'who') FROM unnest('{school.person,school.short,school.padded,school.letters,school.digit,school.number}'::regclass[]) t;

-- A partition that becomes empty, and what the planner remembers of it.
CREATE TABLE school.mark (who text, place text, mark int) PARTITION BY LIST (place);
CREATE TABLE school.mark_here PARTITION OF school.mark FOR VALUES IN ('here');
CREATE TABLE school.mark_there PARTITION OF school.mark FOR VALUES IN ('there');
CREATE INDEX ON school.mark_here (lower(who));
CREATE STATISTICS school.both (mcv) ON who, place FROM school.mark_here;
INSERT INTO school.mark SELECT 'ann-1', 'here', n FROM generate_series(1, 20) n;
INSERT INTO school.mark SELECT 'bea', 'there', n FROM generate_series(1, 20) n;
ANALYZE school.mark;
SELECT count(*) > 2 AS remembered FROM pg_stats s WHERE schemaname = 'school' AND s::text LIKE '%ann-1%';
SELECT eduai.register_personal_data('school.mark', 'who');

-- Foreign keys: deferred, in the wrong order, cascading.
CREATE TABLE school.account (who text PRIMARY KEY);
CREATE TABLE school.login (who text REFERENCES school.account DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE school.badge (id int PRIMARY KEY, who text REFERENCES school.account ON DELETE CASCADE);
CREATE TABLE school.zone (badge int REFERENCES school.badge ON DELETE SET NULL);
INSERT INTO school.account VALUES ('ann-1'), ('bea');
INSERT INTO school.login VALUES ('ann-1'), ('bea');
INSERT INTO school.badge VALUES (1, 'ann-1'), (2, 'bea');
INSERT INTO school.zone VALUES (1), (2);
SELECT eduai.register_personal_data('school.account', 'who'), eduai.register_personal_data('school.login', 'who');

-- Columns to null: those that cannot be are refused at once.
CREATE TABLE school.letter (who text, words text, length int GENERATED ALWAYS AS (length(words)) STORED, n int GENERATED ALWAYS AS IDENTITY, must text NOT NULL);
INSERT INTO school.letter (who, words, must) VALUES ('ann-1', 'dear', 'x'), ('bea', 'dear', 'x');
SELECT eduai.register_personal_data('school.letter', 'who', 'null', '{words,length}');
SELECT eduai.register_personal_data('school.letter', 'who', 'null', '{words,n}');
SELECT eduai.register_personal_data('school.letter', 'who', 'null', '{words,must}');
SELECT eduai.register_personal_data('school.letter', 'who', 'null', '{words}');

-- What refuses: a foreign key of a table that nobody registered, a trigger, a right taken
-- away, a column renamed, a table dropped, one that became a view, rows that the role cannot see.
CREATE TABLE school.pupil (who text PRIMARY KEY);
CREATE TABLE school.grade (pupil text REFERENCES school.pupil);
CREATE TABLE school.exam (who text);
CREATE FUNCTION school.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'exams are on'; END $$;
CREATE TRIGGER refuse BEFORE DELETE ON school.exam FOR EACH ROW EXECUTE FUNCTION school.refuse();
CREATE TABLE school.lent (who text);
CREATE TABLE school.renamed (who text);
CREATE TABLE school.dropped (who text);
CREATE TABLE school.viewed (who text);
CREATE TABLE school.hidden (who text, public boolean);
ALTER TABLE school.hidden ENABLE ROW LEVEL SECURITY;
CREATE POLICY shown ON school.hidden USING (public);
CREATE TABLE school.forced (who text, public boolean);
ALTER TABLE school.forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY shown ON school.forced USING (public) WITH CHECK (true);
INSERT INTO school.pupil VALUES ('ann-1'), ('bea');
INSERT INTO school.grade VALUES ('ann-1');
INSERT INTO school.exam VALUES ('ann-1');
INSERT INTO school.lent VALUES ('ann-1');
INSERT INTO school.renamed VALUES ('ann-1');
INSERT INTO school.viewed VALUES ('ann-1');
INSERT INTO school.hidden VALUES ('ann-1', true), ('ann-1', false), ('bea', true);
INSERT INTO school.forced VALUES ('ann-1', true), ('ann-1', false), ('bea', true);
SELECT eduai.register_personal_data(t, 'who') FROM unnest('{school.pupil,school.exam,school.renamed,school.dropped,school.viewed,school.forced}'::regclass[]) t;
GRANT SELECT, DELETE ON school.lent, school.hidden TO regress_clerk;
SET ROLE regress_clerk;
SELECT eduai.register_personal_data('school.lent', 'who'), eduai.register_personal_data('school.hidden', 'who');
SET ROLE regress_school;
-- an export says that a role cannot see all rows, rather than leave some out
SELECT count(*) FROM eduai.export_user_rows('ann-1');
SELECT eduai.unregister_personal_data('school.hidden', 'who'), eduai.unregister_personal_data('school.forced', 'who');
SELECT source, count(*) FROM eduai.export_user_rows('ann-1') GROUP BY 1 ORDER BY 1;
SELECT eduai.register_personal_data('school.forced', 'who');
SET ROLE regress_clerk;
SELECT eduai.register_personal_data('school.hidden', 'who');
SET ROLE regress_school;
REVOKE DELETE ON school.lent FROM regress_clerk;
ALTER TABLE school.renamed RENAME who TO whom;
DROP TABLE school.dropped;
ALTER TABLE school.viewed RENAME TO was_viewed;
CREATE VIEW school.viewed AS SELECT who FROM school.was_viewed WHERE school.spy();
-- nor does it leave a table out
SELECT count(*) FROM eduai.export_user_rows('ann-1');

-- ---- erased ----

SELECT eduai.erase_user('ann-1', 'a test') ->> 'state' AS state;
RESET ROLE;
-- every step was tried, or what they wait for
CREATE PROCEDURE pg_temp.settle() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. 1500 LOOP
		EXIT WHEN NOT EXISTS (SELECT FROM eduai.erasure_step WHERE tenant_id = 'tables' AND NOT done AND error IS NULL);
		PERFORM pg_sleep(0.02);
		COMMIT;
	END LOOP;
END $$;
CALL pg_temp.settle();
SET ROLE regress_school;
SELECT s.source, s.step ->> 'error' AS error FROM eduai.erasure_status e, jsonb_each(e.remaining) s (source, step)
WHERE s.source NOT IN ('table:school.account.who') ORDER BY 1;
SELECT tableoid::regclass, who FROM school.person ORDER BY 1, 2;
SELECT who FROM school.short ORDER BY 1;
SELECT who FROM school.padded ORDER BY 1;
SELECT who FROM school.letters;
SELECT who FROM school.digit;
SELECT tableoid::regclass, count(*) FROM school.mark GROUP BY 1;
SELECT tablename, attname FROM pg_stats s WHERE schemaname = 'school' AND s::text LIKE '%ann-1%';
RESET ROLE;
SELECT count(*) FROM pg_statistic_ext_data d JOIN pg_statistic_ext e ON e.oid = d.stxoid WHERE e.stxname = 'both';
SET ROLE regress_school;
SELECT who, words, length FROM school.letter ORDER BY 1;

-- ---- mended ----

DROP TABLE school.grade;
DROP TRIGGER refuse ON school.exam;
GRANT DELETE ON school.lent TO regress_clerk;
ALTER TABLE school.renamed RENAME whom TO who;
SELECT eduai.unregister_personal_data('school.dropped', 'who'), eduai.unregister_personal_data('school.viewed', 'who');
SELECT eduai.register_personal_data('school.hidden', 'who');
ALTER TABLE school.forced NO FORCE ROW LEVEL SECURITY;
RESET ROLE;
UPDATE eduai.erasure_step SET retry_at = NULL WHERE tenant_id = 'tables';
-- wakes the keeper
SET ROLE regress_school;
SELECT eduai.erase_user('nobody') ->> 'state' AS state;
RESET ROLE;
DO $$
BEGIN
	FOR i IN 1 .. 1500 LOOP
		EXIT WHEN NOT EXISTS (SELECT FROM eduai.erasure WHERE tenant_id = 'tables' AND completed_at IS NULL);
		PERFORM pg_sleep(0.02);
		COMMIT;
	END LOOP;
END $$;
SET ROLE regress_school;
SELECT completed_at IS NOT NULL AS complete, remaining FROM eduai.erasure_status ORDER BY requested_at;
SELECT r.key AS source, r.value AS removed FROM eduai.erasure_status, jsonb_each(removed) r ORDER BY 1;
SELECT string_agg(a.who, ' ') AS account, (SELECT string_agg(who, ' ') FROM school.login) AS login, (SELECT string_agg(who, ' ') FROM school.badge) AS badge FROM school.account a;
SELECT badge FROM school.zone ORDER BY 1;
SELECT who, public FROM school.hidden;

-- A learner of a ledger is looked for in all tables, and none's code runs as eduai's owner.
SELECT eduai.register_personal_data('school.viewed', 'who');
ALTER TABLE school.was_viewed RENAME TO seen_again;
DROP VIEW school.viewed;
CREATE TABLE school.viewed (who text);
SELECT eduai.register_personal_data('school.viewed', 'who');
DROP TABLE school.viewed;
CREATE VIEW school.viewed AS SELECT who FROM school.seen_again WHERE school.spy();
SELECT eduai.apply_erasures(eduai.export_erasures());
-- what is no ledger
SELECT eduai.apply_erasures('{"keys": [{"secret": "eA=="}], "erasures": []}');
SELECT eduai.apply_erasures('{"keys": [5], "erasures": []}');
SELECT eduai.apply_erasures('{"keys": [], "erasures": [{"user_ref": "short"}]}');

RESET ROLE;
DROP SCHEMA school CASCADE;
DELETE FROM eduai.personal_table WHERE tenant_id = 'tables';
DELETE FROM eduai.erasure WHERE tenant_id = 'tables';
SELECT eduai.disallow_tenant('regress_school', 'tables'), eduai.disallow_tenant('regress_clerk', 'tables');
DROP OWNED BY regress_school, regress_clerk;
DROP ROLE regress_school, regress_clerk;
