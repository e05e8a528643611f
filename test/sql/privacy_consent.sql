-- Consent: what needs one is refused or redacted without it, for events and
-- tasks; withdrawal; history; tenants; who may do what.
\pset format unaligned
\pset tuples_only on
CREATE ROLE regress_consent_admin;
CREATE ROLE regress_consent;
CREATE ROLE regress_consent_other;
GRANT eduai_admin TO regress_consent_admin;
GRANT eduai_app, eduai_worker TO regress_consent;
GRANT eduai_app TO regress_consent_other;
SELECT eduai.allow_tenant(r, 'consent_a') FROM unnest(ARRAY['regress_consent_admin', 'regress_consent']::name[]) r;
SELECT eduai.allow_tenant('regress_consent_other', 'consent_b');
SELECT eduai.configure_pool('consent', '{}', 100);
SELECT eduai.define_task_type('consent_chat', 'application', 'consent');
SELECT eduai.define_task_type('consent_essay', 'application', 'consent');
CREATE FUNCTION pg_temp.fails(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	d text;
	h text;
BEGIN
	EXECUTE statement;
	RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(d, ''), nullif(h, ''));
END $$;
SET eduai.tenant = 'consent_a';

-- requirements: bad input, replacing, dropping
SET ROLE regress_consent_admin;
SELECT pg_temp.fails($$SELECT eduai.require_consent(NULL, 'p')$$);
SELECT pg_temp.fails($$SELECT eduai.require_consent('event:', 'p')$$);
SELECT pg_temp.fails($$SELECT eduai.require_consent('table:x', 'p')$$);
SELECT pg_temp.fails($$SELECT eduai.require_consent('event:x', NULL)$$);
SELECT pg_temp.fails($$SELECT eduai.require_consent('event:x', '')$$);
SELECT pg_temp.fails($$SELECT eduai.require_consent('event:x', 'p', 'shrug')$$);
SELECT eduai.require_consent('event:emotion_detected', 'emotions', on_missing => 'refuse');
SELECT eduai.require_consent('event:emotion_detected', 'emotions', on_missing => 'redact');
SELECT eduai.require_consent('event:interaction_recorded', 'tracking');
SELECT eduai.require_consent('event:interaction_recorded', 'emotions', 'redact');
SELECT eduai.require_consent('event:content_viewed', 'nothing');
SELECT * FROM eduai.consent_requirement_status ORDER BY 1, 2;
SELECT eduai.drop_consent_requirement('event:content_viewed', 'nothing'), eduai.drop_consent_requirement('event:content_viewed', 'nothing');

-- events: redacted without sensitive fields, refused, of nobody
SET ROLE regress_consent;
SELECT count(eduai.publish_event('emotion_detected', 'ann', NULL, '{"emotion": "joy", "context": "laughed"}'));
SELECT pg_temp.fails($$SELECT eduai.publish_event('interaction_recorded', 'ann', NULL, '{"content": "x"}')$$);
SELECT count(eduai.append_event('nobody-1', 'interaction_recorded', '{"content": "x"}'));
SELECT count(eduai.publish_event('content_viewed', 'ann', NULL, '{"content_id": "c"}'));
SELECT pg_temp.fails($$SELECT eduai.append_batch(ARRAY['s-1', 's-1'], ARRAY['content_viewed', 'interaction_recorded'],
	ARRAY['{}', '{}']::jsonb[], ARRAY['ann', 'ann'])$$);
SELECT event_type, data FROM eduai.read_stream('learner-ann');
SELECT count(*) FROM eduai.read_stream('s-1');

-- given: one purpose, then both
SELECT eduai.has_consent('ann', 'emotions');
SELECT eduai.grant_consent('ann', 'emotions', '{"form": "a-1"}');
SELECT eduai.has_consent('ann', 'emotions'), eduai.has_consent('bob', 'emotions'), eduai.has_consent('ann', 'tracking');
SELECT count(eduai.publish_event('emotion_detected', 'ann', NULL, '{"emotion": "joy", "context": "laughed"}'));
SELECT pg_temp.fails($$SELECT eduai.publish_event('interaction_recorded', 'ann', NULL, '{"content": "x"}')$$);
SELECT eduai.grant_consent('ann', 'tracking');
SELECT count(eduai.publish_event('interaction_recorded', 'ann', NULL, '{"content": "x"}'));
-- in a transaction that is rolled back it was not given
BEGIN;
SELECT eduai.grant_consent('cyd', 'tracking');
SELECT eduai.has_consent('cyd', 'tracking');
ROLLBACK;
SELECT eduai.has_consent('cyd', 'tracking');

-- withdrawn: at once, within a snapshot too; what is stored stays
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM eduai.read_stream('learner-ann');
SELECT eduai.withdraw_consent('ann', 'emotions');
SELECT count(eduai.publish_event('interaction_recorded', 'ann', NULL, '{"content": "y", "interaction_type": "t"}'));
COMMIT;
SELECT event_type, data FROM eduai.read_stream('learner-ann');
SELECT pg_temp.fails($$SELECT eduai.grant_consent('ann', 'emotions', '[]')$$);
SELECT pg_temp.fails($$SELECT eduai.grant_consent(NULL, 'emotions')$$);
SELECT pg_temp.fails($$SELECT eduai.withdraw_consent('ann', E'a\nb')$$);
SELECT pg_temp.fails($$SELECT eduai.has_consent('ann', NULL)$$);

-- tasks: refused, skipped, deferred, redacted
SET ROLE regress_consent_admin;
SELECT eduai.require_consent('task:consent_chat', 'ai');
SELECT eduai.require_consent('task:consent_essay', 'ai', 'redact');
SET ROLE regress_consent;
SELECT pg_temp.fails($$SELECT eduai.enqueue('consent_chat', '{"q": 1}', user_id => 'ann')$$);
SELECT eduai.enqueue('consent_chat', '{"q": 1}', user_id => 'ann', on_refusal => 'skip') IS NULL;
SELECT eduai.enqueue('consent_chat', '{"q": 1}') IS NOT NULL;
SELECT task_id > 0, payload FROM eduai.claim_tasks('w', '{consent_chat}', 10);
SELECT eduai.enqueue('consent_chat', '{"q": "later"}', user_id => 'ann', on_refusal => 'defer') AS deferred \gset
SELECT count(*) FROM eduai.claim_tasks('w', '{consent_chat}', 10);
SELECT state, error->>'code' FROM eduai.get_task(:deferred);
SELECT eduai.enqueue('consent_essay', '{"essay": "secret", "level": 2}', user_id => 'ann', metadata => '{"sensitive": ["essay"]}') AS redacted \gset
SELECT eduai.enqueue('consent_essay', '{"level": 2}', user_id => 'ann') AS plain \gset
SELECT pg_temp.fails($$SELECT eduai.enqueue('consent_essay', '{"essay": "x"}', user_id => 'ann', metadata => '{"sensitive": true}')$$);
SELECT pg_temp.fails($$SELECT eduai.enqueue('consent_essay', '{}', metadata => '{"sensitive": "essay"}')$$);
SELECT pg_temp.fails($$SELECT eduai.enqueue('consent_essay', '{}', metadata => '{"sensitive": [{}]}')$$);
SELECT payload FROM eduai.claim_tasks('w', '{consent_essay}', 10);

-- with the consent; withdrawn: what needs it is cancelled, running or not
SELECT eduai.grant_consent('ann', 'ai');
SELECT eduai.enqueue('consent_chat', '{"q": "run"}', user_id => 'ann') AS run \gset
SELECT payload FROM eduai.claim_tasks('w', '{consent_chat}', 10);
SELECT eduai.enqueue('consent_chat', '{"q": "wait"}', user_id => 'ann') AS wait \gset
SELECT eduai.enqueue('consent_essay', '{"essay": "secret"}', user_id => 'ann', metadata => '{"sensitive": ["essay"]}') AS essay \gset
SELECT eduai.enqueue('consent_essay', '{"level": 3}', user_id => 'ann') AS still \gset
SELECT eduai.grant_consent('bob', 'ai');
SELECT eduai.enqueue('consent_chat', '{"q": "bob"}', user_id => 'bob') AS bob \gset
BEGIN;
SELECT eduai.withdraw_consent('ann', 'ai');
ROLLBACK;
SELECT string_agg(state, ' ' ORDER BY task_id) FROM eduai.get_tasks(ARRAY[:run, :wait, :essay, :still, :bob]);
SELECT eduai.withdraw_consent('ann', 'ai');
SELECT string_agg(state, ' ' ORDER BY task_id) FROM eduai.get_tasks(ARRAY[:run, :wait, :essay, :still, :bob]);
SELECT regexp_replace(pg_temp.fails(format($$SELECT eduai.complete_task(%s, 1, '{}')$$, :run)), 'task \d+', 'task N');
SELECT payload FROM eduai.claim_tasks('w', '{consent_chat,consent_essay}', 10);

-- taken back by hand without the consent, it does not start either
SELECT eduai.retry_task(:wait);
SELECT count(*) FROM eduai.claim_tasks('w', '{consent_chat}', 10);
SELECT state, error->>'code', attempt FROM eduai.get_task(:wait);

-- the history
RESET ROLE;
SELECT user_id, purpose, granted, by_role, proof, at IS NOT NULL FROM eduai.consent WHERE tenant_id = 'consent_a' ORDER BY consent_id;

-- another tenant requires and has nothing of it
SET ROLE regress_consent_other;
SET eduai.tenant = 'consent_b';
SELECT eduai.has_consent('bob', 'ai');
SELECT count(*) FROM eduai.consent_requirement_status;
SELECT count(eduai.publish_event('interaction_recorded', 'ann', NULL, '{"content": "x"}'));
SELECT eduai.withdraw_consent('bob', 'ai');
SELECT pg_temp.fails($$SELECT eduai.require_consent('event:x', 'p')$$);
SELECT pg_temp.fails($$SELECT count(*) FROM eduai.consent$$);
SET ROLE regress_consent;
SET eduai.tenant = 'consent_a';
SELECT eduai.has_consent('bob', 'ai');
SELECT pg_temp.fails($$SET LOCAL eduai.tenant = 'consent_b'; SELECT eduai.grant_consent('bob', 'ai')$$);

-- the keys' functions are an administrator's, and there is no key store here
SELECT pg_temp.fails($$SELECT eduai.rotate_master_key()$$);
SELECT pg_temp.fails($$SELECT eduai.create_key_store()$$);
RESET ROLE;
SET ROLE regress_consent_admin;
SELECT pg_temp.fails($$SELECT eduai.rotate_master_key()$$);
SELECT pg_temp.fails($$SELECT eduai.create_key_store()$$);
RESET ROLE;

DELETE FROM eduai.consent WHERE tenant_id LIKE 'consent\__';
DELETE FROM eduai.consent_requirement WHERE tenant_id = 'consent_a';
SELECT eduai.disallow_tenant(r, 'consent_a') FROM unnest(ARRAY['regress_consent_admin', 'regress_consent']::name[]) r;
SELECT eduai.disallow_tenant('regress_consent_other', 'consent_b');
DROP OWNED BY regress_consent_admin, regress_consent, regress_consent_other;
DROP ROLE regress_consent_admin, regress_consent, regress_consent_other;
