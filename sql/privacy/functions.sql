-- ---- keys ----

CREATE OR REPLACE FUNCTION eduai.create_key_store() RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_create_key_store' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.create_key_store() IS
'Makes the file that eduai.key_store names, or the entry "store" behind eduai.key_store_command; at once, whatever becomes of the transaction. There must be none: where a key store is missing, what it could open stays closed, so one is never made by itself. Needs the master key (eduai.master_key_file or eduai.master_key_command). Errors: 55000 when a setting is missing, the store is there, its file in the data directory, or it cannot be made. Role: eduai_admin. Example: SELECT eduai.create_key_store();';

CREATE OR REPLACE FUNCTION eduai.rotate_master_key() RETURNS bigint
	AS 'MODULE_PATHNAME', 'eduai_rotate_master_key' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.rotate_master_key() IS
'Wraps all learners'' keys in the current master key, the first of eduai.master_key_file, while they are used; no data is touched. Returns how many it wrapped (behind eduai.key_store_command there is one, under which the learners'' are); at once, whatever becomes of the transaction. Interrupted, it goes on where it was when called again; afterwards the older master keys are needed by backups of the key store alone, and by providers'' keys until eduai.reseal_secrets(). Errors: 55000 when the key store or a master key that it needs cannot be used. Role: eduai_admin. Example: SELECT eduai.rotate_master_key();';

CREATE OR REPLACE FUNCTION eduai.test_destroy_key(user_id text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'eduai_test_destroy_key' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.test_destroy_key(text) IS
'For tests: destroys the key of a learner of the session''s tenant in the key store, at once; false when there was none. Errors: 55000 unless eduai.test_mode is on. Role: superuser. Example: SELECT eduai.test_destroy_key(''ann'');';

REVOKE ALL ON FUNCTION eduai.create_key_store(), eduai.rotate_master_key(),
	eduai.test_destroy_key(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.create_key_store(), eduai.rotate_master_key() TO eduai_admin;

-- ---- consent ----

CREATE OR REPLACE FUNCTION eduai.require_consent(subject text, purpose text, on_missing text DEFAULT 'refuse')
	RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_require_consent' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.require_consent(text, text, text) IS
'From its commit on, the tenant''s events or tasks of a type need the consent of the learner they are about; a subject may need several. subject: event:TYPE or task:TYPE. purpose: a name of your own, 1 to 512 bytes. on_missing: refuse (UE007) or redact: recorded without what is sensitive, events without the type''s sensitive_fields, tasks without the payload''s keys that metadata.sensitive names, and refused when it is true. Again with another on_missing replaces. Sealed fields of the subject are shown in clear only while the consent is given. What is about nobody (no user_id) needs none; what is stored already stays. Errors: 22004, 22023. Role: eduai_admin. Example: SELECT eduai.require_consent(''event:emotion_detected'', ''emotion-recognition'', ''redact'');';

CREATE OR REPLACE FUNCTION eduai.drop_consent_requirement(subject text, purpose text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'eduai_drop_consent_requirement' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.drop_consent_requirement(text, text) IS
'Takes back what eduai.require_consent() required of the session''s tenant; false when it was not required. Consents given stay. Errors: 22004, 22023. Role: eduai_admin. Example: SELECT eduai.drop_consent_requirement(''event:emotion_detected'', ''emotion-recognition'');';

CREATE OR REPLACE FUNCTION eduai.grant_consent(user_id text, purpose text, proof jsonb DEFAULT '{}') RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_grant_consent' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.grant_consent(text, text, jsonb) IS
'Records that a learner consents to a purpose; with the time, the calling role and the proof, an object: what was shown, who agreed, where the paper is. Again adds to the history. Errors: 22004, 22023, UE008 when the learner was erased, UE012. Role: eduai_app. Example: SELECT eduai.grant_consent(''ann'', ''emotion-recognition'', ''{"form": "2026-3", "signed_by": "parent"}'');';

CREATE OR REPLACE FUNCTION eduai.withdraw_consent(user_id text, purpose text) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_withdraw_consent' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.withdraw_consent(text, text) IS
'Records that a learner does not, or no longer, consent to a purpose. From its commit on nothing that needs the consent is begun: events and tasks are refused or redacted; tasks about the learner that need it and are not final are cancelled, running ones too (their late results are refused), and one that a concurrent transaction enqueues is not started. What was recorded before stays, and sealed fields of the subjects that need the purpose are shown to nobody. Errors: 22004, 22023, UE012. Role: eduai_app. Example: SELECT eduai.withdraw_consent(''ann'', ''emotion-recognition'');';

CREATE OR REPLACE FUNCTION eduai.has_consent(user_id text, purpose text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'eduai_has_consent' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.has_consent(text, text) IS
'Does the learner consent to the purpose, as it is committed now? False when nothing was recorded. Errors: 22004, 22023, UE012. Role: eduai_app, eduai_worker, eduai_admin. Example: SELECT eduai.has_consent(''ann'', ''emotion-recognition'');';

CREATE OR REPLACE VIEW eduai.consent_requirement_status AS
SELECT subject, purpose, on_missing FROM eduai.consent_requirement
WHERE tenant_id = (SELECT eduai.current_tenant());
COMMENT ON VIEW eduai.consent_requirement_status IS
'What eduai.require_consent() requires in the session''s tenant. Role: eduai_app, eduai_reader, eduai_admin.';

REVOKE ALL ON FUNCTION eduai.require_consent(text, text, text), eduai.drop_consent_requirement(text, text),
	eduai.grant_consent(text, text, jsonb), eduai.withdraw_consent(text, text),
	eduai.has_consent(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.require_consent(text, text, text), eduai.drop_consent_requirement(text, text)
	TO eduai_admin;
GRANT EXECUTE ON FUNCTION eduai.grant_consent(text, text, jsonb), eduai.withdraw_consent(text, text)
	TO eduai_app;
GRANT EXECUTE ON FUNCTION eduai.has_consent(text, text) TO eduai_app, eduai_worker, eduai_admin;
GRANT SELECT ON eduai.consent_requirement_status TO eduai_app, eduai_reader, eduai_admin;

-- ---- erasure ----

CREATE OR REPLACE FUNCTION eduai.erase_user(user_id text, reason text DEFAULT NULL) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_erase_user' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.erase_user(text, text) IS
'Erases everything held about a learner of the tenant: from its commit nothing new is accepted about the learner (UE008), and the keeper removes what there is. user_id: 1 to 1024 bytes. reason: at most 1000 bytes, kept for ever, must not name the learner. Returns {user_ref, requested_at, state, sources {name: {rows, count (exact | at least), removed, done}}}: user_ref stands for the learner from now on; rows are what was found without looking through tables. It returns at once; eduai.erasure_status tells when it is complete. Called again it returns how far it is. A rolled back call changes nothing. Errors: 22004 for a null, 22023 for a bad value, UE011 without preload, 55000 when the key of the digests cannot be opened. Role: eduai_admin. Example: SELECT eduai.erase_user(''pupil-7'', ''request of 3 March'');';

CREATE OR REPLACE FUNCTION eduai.user_ref(user_id text) RETURNS text
	AS 'MODULE_PATHNAME', 'eduai_user_ref' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.user_ref(text) IS
'The reference that stands for a learner of the tenant in eduai.erasure_status and in the events learner_erased: a keyed digest of 32 hexadecimal digits, by which those who keep copies find what to drop. Errors: 22004 for a null, 22023 for a bad value, 55000 when the key of the digests cannot be opened. Role: eduai_admin. Example: SELECT eduai.user_ref(''pupil-7'');';

CREATE OR REPLACE VIEW eduai.erasure_status AS
SELECT e.user_ref, e.requested_at, e.keys_destroyed_at, e.completed_at, s.remaining, e.removed
FROM eduai.erasure e
LEFT JOIN LATERAL (
	SELECT pg_catalog.jsonb_object_agg(t.source, pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
		'rows', greatest(t.expected - t.removed, 0), 'removed', t.removed, 'error', t.error))) AS remaining
	FROM eduai.erasure_step t
	WHERE t.tenant_id = e.tenant_id AND t.user_ref = e.user_ref AND NOT t.done
) s ON e.completed_at IS NULL
WHERE e.tenant_id = eduai.current_tenant();
COMMENT ON VIEW eduai.erasure_status IS
'The erasures of the tenant. keys_destroyed_at: when what was sealed for the learner became unreadable; NULL where nothing is sealed. completed_at: NULL while pending. remaining: for each source that is not done the rows that remain at least, those removed, and the last error; NULL when complete. removed: the rows removed by source, when complete.';

CREATE OR REPLACE FUNCTION eduai.note_erased() RETURNS trigger
	AS 'MODULE_PATHNAME', 'eduai_note_erased' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.note_erased() IS
'The trigger of eduai.erasure, eduai.erased_stream and eduai.erasure_key: who was erased is refused as soon as the row is there, also when it comes from a dump or by logical replication. Errors: 39P01 when it is not called by a trigger. Role: none, it is called by the tables. Example: CREATE TRIGGER note_erased AFTER INSERT ON eduai.erasure FOR EACH ROW EXECUTE FUNCTION eduai.note_erased();';
REVOKE ALL ON FUNCTION eduai.note_erased() FROM PUBLIC;
DO $$
DECLARE
	tbl regclass;
BEGIN
	FOREACH tbl IN ARRAY '{eduai.erasure,eduai.erased_stream,eduai.erasure_key}'::regclass[] LOOP
		EXECUTE format('CREATE OR REPLACE TRIGGER note_erased AFTER INSERT ON %s FOR EACH ROW EXECUTE FUNCTION eduai.note_erased()', tbl);
		EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER note_erased', tbl);
	END LOOP;
END $$;

CREATE OR REPLACE FUNCTION eduai.register_personal_data(tbl regclass, user_column name, on_erase text DEFAULT 'delete',
	columns name[] DEFAULT '{}', tenant_column name DEFAULT NULL) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_register_personal_data' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.register_personal_data(regclass, name, text, name[], name) IS
'Tells of a table of the application that holds data about the tenant''s learners: user_column has their ids. At an erasure its rows about the learner are deleted (on_erase delete) or user_column and columns become null (null); an export shows them. tenant_column: where the table holds rows of several tenants, the column that says whose; each tenant registers it. Runs as the calling role, with its rights, which needs SELECT and DELETE or UPDATE. Called again for the same column it replaces. Errors: 22004 for a null, 22023 for a bad on_erase, a column that cannot be null or a table of eduai, 42809 for what is not a table, 42703 for an unknown column, 42501 without the rights. Role: eduai_admin. Example: SELECT eduai.register_personal_data(''public.pupils'', ''pupil_id'', ''null'', ''{name,email}'');';

CREATE OR REPLACE FUNCTION eduai.unregister_personal_data(tbl text, user_column name) RETURNS boolean
	AS 'MODULE_PATHNAME', 'eduai_unregister_personal_data' LANGUAGE C STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.unregister_personal_data(text, name) IS
'Takes back eduai.register_personal_data() for the tenant, also when the table is gone: tbl is its name then, with the schema, as when it was registered. False when the column was not registered. Errors: 42602 for what is no name. Role: eduai_admin. Example: SELECT eduai.unregister_personal_data(''public.pupils'', ''pupil_id'');';

CREATE OR REPLACE FUNCTION eduai.export_user(user_id text) RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_export_user' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.export_user(text) IS
'Everything held about a learner of the tenant: {user_id, source: [row, …], …}. Sources: tasks, attachments (data in base64), events, snapshots, progress, learner_model, cohorts, usage, budgets, "table:NAME" for registered tables, and others that the installation has. Sealed values are in clear for roles that may see them. For long histories, whose jsonb would pass 1 GB or the memory at hand, use eduai.export_user_rows(). Looks through the tenant''s whole log. Errors: 22004 for a null, 22023 for a bad value. Role: eduai_admin. Example: SELECT eduai.export_user(''pupil-7'');';

CREATE OR REPLACE FUNCTION eduai.export_user_rows(user_id text) RETURNS SETOF eduai.exported
	AS 'MODULE_PATHNAME', 'eduai_export_user_rows' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.export_user_rows(text) IS
'As eduai.export_user(), a row each with its source; goes to disk beyond work_mem. Errors: 22004 for a null, 22023 for a bad value. Role: eduai_admin. Example: SELECT * FROM eduai.export_user_rows(''pupil-7'');';

CREATE OR REPLACE FUNCTION eduai.export_erasures() RETURNS jsonb
	AS 'MODULE_PATHNAME', 'eduai_export_erasures' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.export_erasures() IS
'The ledger of erasures of all tenants, for eduai.apply_erasures() of a database restored to a time before: {keys [{key_id, created_at, sealed, secret}], erasures [{user_ref, tenant, key_id, probe, requested_at, reason, home}]}. It names nobody; with an unsealed key (no eduai.master_key_file) whoever has it can test whether an id that he knows was erased. Role: eduai_admin. Example: SELECT eduai.export_erasures();';

CREATE OR REPLACE FUNCTION eduai.apply_erasures(ledger jsonb DEFAULT NULL) RETURNS bigint
	AS 'MODULE_PATHNAME', 'eduai_apply_erasures' LANGUAGE C PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.apply_erasures(jsonb) IS
'After a restore: applies the erasures of a ledger, of all tenants, that this database does not know; returns how many. ledger: what eduai.export_erasures() returned; NULL: the ledger outside the database (eduai.erasure_ledger). Learners who are held here are erased as by eduai.erase_user(), the others are refused from now on. Looks through all tables for their ids. Errors: 22023 for a bad ledger, 55000 when there is none or its key cannot be opened, UE011 without preload. Role: eduai_admin. Example: SELECT eduai.apply_erasures();';

REVOKE ALL ON FUNCTION eduai.erase_user(text, text), eduai.user_ref(text),
	eduai.register_personal_data(regclass, name, text, name[], name),
	eduai.unregister_personal_data(text, name), eduai.export_user(text), eduai.export_user_rows(text),
	eduai.export_erasures(), eduai.apply_erasures(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.erase_user(text, text), eduai.user_ref(text),
	eduai.register_personal_data(regclass, name, text, name[], name),
	eduai.unregister_personal_data(text, name), eduai.export_user(text), eduai.export_user_rows(text),
	eduai.export_erasures(), eduai.apply_erasures(jsonb) TO eduai_admin;
GRANT SELECT ON eduai.erasure_status TO eduai_admin, eduai_reader;

-- ---- the access log ----

CREATE OR REPLACE FUNCTION eduai.verify_access_log(from_seq bigint DEFAULT NULL, through_seq bigint DEFAULT NULL)
	RETURNS SETOF eduai.access_fault
	AS 'MODULE_PATHNAME', 'eduai_verify_access_log' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.verify_access_log(bigint, bigint) IS
'What does not fit in the chain of the session''s tenant''s access log: (seq, at, fault, detail), no rows when all is well. fault: changed, the row is not what was written; moved, it had another number; removed, rows are missing before a later one; weaker, the chain goes on with an older key or none; unverified, the key cannot be opened with today''s master key; truncated and rewritten, by the head outside (eduai.access_log_head): rows are missing at the end, or all were made anew. from_seq, through_seq: only these rows, to look through a long log in parts; the row before from_seq is trusted, and the head outside is looked at when there is no through_seq. What retention removed is no fault. Errors: 22023 from_seq below 1, UE012 tenant, 58030 the head outside cannot be read. Role: eduai_admin. Example: SELECT * FROM eduai.verify_access_log();';

CREATE OR REPLACE FUNCTION eduai.flush_access_log() RETURNS bigint
	AS 'MODULE_PATHNAME', 'eduai_flush_access_log' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.flush_access_log() IS
'Has the keeper write the reads that were noted, waits for up to 10 s, and returns how many still wait: 0 when all are in eduai.access_log. They would be there within a second or two anyway. Errors: UE011 without preload. Role: eduai_admin. Example: SELECT eduai.flush_access_log();';

CREATE OR REPLACE VIEW eduai.access_record WITH (security_barrier) AS
	SELECT l.seq, l.at, l.kind, l.role, a.user_id, l.learner, l.purpose, l.source, l.rows
	FROM eduai.access_log l
	LEFT JOIN eduai.access_learner a ON a.tenant_id = l.tenant_id AND a.ref = l.learner
	WHERE l.tenant_id = (SELECT eduai.current_tenant());
COMMENT ON VIEW eduai.access_record IS
'The access log of the session''s tenant: who read how many rows about whom. user_id is NULL where nobody was known, where several learners were read at once, and once the learner was erased. kind: read, lost (rows: how many reads are missing), removed (by retention, through number rows). Role: eduai_admin.';

REVOKE ALL ON FUNCTION eduai.verify_access_log(bigint, bigint), eduai.flush_access_log() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.verify_access_log(bigint, bigint), eduai.flush_access_log() TO eduai_admin;
REVOKE ALL ON eduai.access_record FROM PUBLIC;
GRANT SELECT ON eduai.access_record TO eduai_admin;

-- ---- anonymisation ----

CREATE OR REPLACE FUNCTION eduai.anonymise_events(older_than interval DEFAULT '2 years') RETURNS bigint
	AS 'MODULE_PATHNAME', 'eduai_anonymise_events' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.anonymise_events(interval) IS
'Makes unknown whom the session''s tenant''s events older than this are about, for good, and returns how many it changed. The age is that of occurred_at, or of recorded_at where that is earlier. Learners, streams and sessions get random names that nobody can tell them by, the same one for a learner throughout a run; event ids are drawn anew; times become days (UTC); of data stay true, false, null, the numbers of listed keys (eduai.anonymise_keys), and their strings if at least eduai.anonymise_k learners have them, else null; other numbers likewise; other strings, sensitive and sealed fields, rare keys and metadata are dropped. Snapshots of those versions go. Projections rebuilt afterwards see the new names.
The work is done by a process of its own in short transactions while the caller waits: it is not undone when the caller rolls back, and a call that was interrupted, or a server that crashed, goes on from there. Writers wait for nothing, but the caller''s snapshot lasts as long: CALL eduai.anonymise_events(older_than, NULL) holds none. Without preload it is done in the caller''s transaction. Errors: 22004 older_than is null, 22023 negative, 55006 it runs already, UE012 tenant. Role: eduai_admin. Example: SELECT eduai.anonymise_events(''2 years'');';

CREATE OR REPLACE PROCEDURE eduai.anonymise_events(older_than interval, INOUT events bigint)
	AS 'MODULE_PATHNAME', 'eduai_call_anonymise_events' LANGUAGE C;
COMMENT ON PROCEDURE eduai.anonymise_events(interval, bigint) IS
'As the function eduai.anonymise_events(older_than), but commits first and holds no snapshot while it waits, which would keep dead rows from being pruned everywhere for as long as the work takes; in a transaction block it waits like the function. events: give NULL; becomes how many it changed. Errors: those of the function. Role: eduai_admin. Example: CALL eduai.anonymise_events(''2 years'', NULL);';

REVOKE ALL ON FUNCTION eduai.anonymise_events(interval) FROM PUBLIC;
REVOKE ALL ON PROCEDURE eduai.anonymise_events(interval, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.anonymise_events(interval) TO eduai_admin;
GRANT EXECUTE ON PROCEDURE eduai.anonymise_events(interval, bigint) TO eduai_admin;

-- ---- retention ----

CREATE OR REPLACE FUNCTION eduai.set_retention(subject text, keep interval, action text) RETURNS void
	AS 'MODULE_PATHNAME', 'eduai_set_retention' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.set_retention(text, interval, text) IS
'Says how long the session''s tenant keeps data of a subject, and what becomes of it then; eduai.run_maintenance(''retain_<subject>'') does it. subject: events (delete, anonymise, compact; each may have its own time), tasks (delete: finished ones), attachments (delete: those no task refers to, after a day at least), usage (delete: the ledger of provider calls before this month), snapshots (delete), access_log (delete; the chain stays verifiable), consents (delete: answers that a later one replaced, and withdrawals; never a consent that holds). keep: longer than nothing; NULL takes the policy back. Errors: 22023 unknown subject, action or keep; 22004 null; UE012 tenant. Role: eduai_admin. Example: SELECT eduai.set_retention(''events'', ''2 years'', ''anonymise'');';

CREATE OR REPLACE FUNCTION eduai.run_maintenance(job text) RETURNS eduai.maintenance_result
	AS 'MODULE_PATHNAME', 'eduai_run_maintenance' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eduai.run_maintenance(text) IS
'Runs a job of eduai.maintenance_status now and returns how it went: (job, result, rows, started_at, ended_at, error). It has effects: call it in FROM. result: done; unfinished, eduai.maintenance_time_limit was over and the next run goes on; busy, it runs already; failed, and error says why. retain_<subject> carries out the policies of all tenants in short transactions of a process of its own; fit_learner_model is for the session''s tenant. Errors: 22023 unknown job, UE012 tenant. Role: eduai_admin. Example: SELECT * FROM eduai.run_maintenance(''retain_events'');';

CREATE OR REPLACE PROCEDURE eduai.run_maintenance(job text, INOUT result eduai.maintenance_result)
	AS 'MODULE_PATHNAME', 'eduai_call_maintenance' LANGUAGE C;
COMMENT ON PROCEDURE eduai.run_maintenance(text, eduai.maintenance_result) IS
'As the function eduai.run_maintenance(job), but commits first and holds no snapshot while a retain_<subject> works, which would keep dead rows from being pruned everywhere; eduai.schedule_maintenance() schedules this. In a transaction block it waits like the function. result: give NULL. Errors: those of the function; 22004 job is null. Role: eduai_admin. Example: CALL eduai.run_maintenance(''retain_events'', NULL);';

CREATE OR REPLACE FUNCTION eduai.record_schedule(job text, schedule text, installed boolean) RETURNS void
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
		INSERT INTO eduai.maintenance_schedule (job, schedule, installed) VALUES ($1, $2, $3)
		ON CONFLICT (job) DO UPDATE SET schedule = EXCLUDED.schedule, installed = EXCLUDED.installed
	$$;
COMMENT ON FUNCTION eduai.record_schedule(text, text, boolean) IS
'For eduai.schedule_maintenance(): notes the schedule of a job. Role: eduai_admin. Example: SELECT eduai.record_schedule(''prune_runs'', ''0 4 * * *'', false);';

CREATE OR REPLACE VIEW eduai.maintenance_status AS
	WITH known (job) AS (
		SELECT DISTINCT 'retain_' || p.subject FROM eduai.retention_policy p
		UNION VALUES ('compact_events'), ('fit_learner_model'), ('prune_runs')
		UNION SELECT s.job FROM eduai.maintenance_schedule s)
	SELECT k.job, s.schedule, r.ended_at AS last_run, r.result AS last_result, r.rows,
		r.error, coalesce(s.installed, false) AS installed
	FROM known k
	LEFT JOIN eduai.maintenance_schedule s USING (job)
	LEFT JOIN LATERAL (SELECT m.ended_at, m.result, m.rows, m.error FROM eduai.maintenance_run m
		WHERE m.job = k.job ORDER BY m.run_id DESC LIMIT 1) r ON true;
COMMENT ON VIEW eduai.maintenance_status IS
'The maintenance jobs of this database: when each is scheduled (installed: on pg_cron), when it last ran, how that went (done, unfinished, busy, failed) and how many rows it was about. Role: eduai_admin, eduai_reader.';

-- As its caller: what it does on pg_cron needs the caller's rights there.
CREATE OR REPLACE FUNCTION eduai.schedule_maintenance(schedule text DEFAULT NULL) RETURNS SETOF eduai.maintenance_job
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
	AS $$
	DECLARE
		home text := pg_catalog.current_setting('cron.database_name', true);
		here boolean := false;
		item eduai.maintenance_job;
	BEGIN
		IF home = pg_catalog.current_database() AND pg_catalog.to_regproc('cron.schedule_in_database') IS NOT NULL THEN
			here := pg_catalog.has_schema_privilege('cron', 'USAGE');
		END IF;
		FOR item IN
			SELECT s.job, coalesce(schedule_maintenance.schedule, d.schedule),
				CASE WHEN s.job = 'fit_learner_model' AND eduai.current_tenant() <> 'default' THEN
					pg_catalog.format('SELECT pg_catalog.set_config(%L, %L, true); ', 'eduai.tenant', eduai.current_tenant())
				ELSE '' END || pg_catalog.format('CALL eduai.run_maintenance(%L, NULL)', s.job)
			FROM eduai.maintenance_status s
			JOIN (VALUES ('retain_%', '17 * * * *'), ('compact_events', '37 2 * * *'),
				('fit_learner_model', '7 3 * * *'), ('prune_runs', '47 4 * * *')) AS d (pattern, schedule)
				ON s.job LIKE d.pattern
			ORDER BY s.job
		LOOP
			IF here THEN
				EXECUTE 'SELECT cron.schedule($1, $2, $3)' USING 'eduai ' || item.job, item.schedule, item.command;
			ELSIF home IS NOT NULL THEN
				item.command := pg_catalog.format('SELECT cron.schedule_in_database(%L, %L, %L, %L)',
					'eduai ' || item.job, item.schedule, item.command, pg_catalog.current_database());
			END IF;
			PERFORM eduai.record_schedule(item.job, item.schedule, here);
			RETURN NEXT item;
		END LOOP;
		IF here THEN
			RETURN;
		ELSIF home IS NULL THEN
			RAISE NOTICE 'pg_cron is not loaded: have something else run the commands at these times';
		ELSE
			RAISE NOTICE 'run these commands in the database "%", as a role that may use pg_cron there', home;
		END IF;
	END
	$$;
COMMENT ON FUNCTION eduai.schedule_maintenance(text) IS
'Installs the maintenance jobs on pg_cron, under names that begin with "eduai ", and returns them: (job, schedule, command); what was installed before is replaced. There is a job for each subject with a policy of eduai.set_retention(), and compact_events, fit_learner_model (for the session''s tenant) and prune_runs: call it again after new policies. Where pg_cron is not in this database, or the caller may not use it, nothing is installed and command says what to run, and a notice where. schedule: the same for all of them, in cron''s five fields; by default retention hourly, the rest at night. Errors: those of pg_cron, UE012 tenant. Role: eduai_admin. Example: SELECT * FROM eduai.schedule_maintenance();';

CREATE OR REPLACE FUNCTION eduai.unschedule_maintenance() RETURNS bigint
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
	AS $$
	DECLARE
		item record;
		n bigint := 0;
	BEGIN
		FOR item IN SELECT s.job, s.schedule FROM eduai.maintenance_status s WHERE s.installed LOOP
			IF pg_catalog.to_regproc('cron.schedule_in_database') IS NOT NULL THEN
				EXECUTE 'SELECT cron.unschedule(j.jobid) FROM cron.job j WHERE j.jobname = $1'
					' AND j.database = pg_catalog.current_database()' USING 'eduai ' || item.job;
			END IF;
			PERFORM eduai.record_schedule(item.job, item.schedule, false);
			n := n + 1;
		END LOOP;
		RETURN n;
	END
	$$;
COMMENT ON FUNCTION eduai.unschedule_maintenance() IS
'Takes the jobs that eduai.schedule_maintenance() installed off pg_cron and returns how many those were. Errors: those of pg_cron. Role: eduai_admin. Example: SELECT eduai.unschedule_maintenance();';

REVOKE ALL ON PROCEDURE eduai.run_maintenance(text, eduai.maintenance_result) FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE eduai.run_maintenance(text, eduai.maintenance_result) TO eduai_admin;
REVOKE ALL ON FUNCTION eduai.set_retention(text, interval, text), eduai.run_maintenance(text),
	eduai.record_schedule(text, text, boolean), eduai.schedule_maintenance(text),
	eduai.unschedule_maintenance() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION eduai.set_retention(text, interval, text), eduai.run_maintenance(text),
	eduai.record_schedule(text, text, boolean), eduai.schedule_maintenance(text),
	eduai.unschedule_maintenance() TO eduai_admin;
REVOKE ALL ON eduai.maintenance_status FROM PUBLIC;
GRANT SELECT ON eduai.maintenance_status TO eduai_admin, eduai_reader;
