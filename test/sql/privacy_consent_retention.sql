-- retention of the history of consents: what holds now stays, whatever its age
-- others' tests leave some
DELETE FROM eduai.consent;
\set VERBOSITY terse
SELECT count(x) FROM (VALUES (1)) v, LATERAL eduai.grant_consent('ann', 'ai', '{"form": 1}') x;
SELECT count(x) FROM (VALUES (1)) v, LATERAL eduai.withdraw_consent('ann', 'ai') x;
SELECT count(x) FROM (VALUES (1)) v, LATERAL eduai.grant_consent('ann', 'ai', '{"form": 2}') x;
SELECT count(x) FROM (VALUES (1)) v, LATERAL eduai.grant_consent('ben', 'ai') x;
SELECT count(x) FROM (VALUES (1)) v, LATERAL eduai.withdraw_consent('ben', 'ai') x;
SELECT count(x) FROM (VALUES (1)) v, LATERAL eduai.grant_consent('cleo', 'ai') x;
SELECT count(x) FROM (VALUES (1)) v, LATERAL eduai.grant_consent('dan', 'ai') x;
UPDATE eduai.consent SET at = at - interval '2 years';
SELECT count(x) FROM (VALUES (1)) v, LATERAL eduai.withdraw_consent('dan', 'ai') x;
SELECT eduai.set_retention('consents', '1 year', 'delete');
SELECT result, rows FROM eduai.run_maintenance('retain_consents');
SELECT user_id, granted, proof FROM eduai.consent ORDER BY consent_id;
SELECT u, eduai.has_consent(u, 'ai') FROM unnest('{ann,ben,cleo,dan}'::text[]) u;
-- nothing is old enough any more
SELECT result, rows FROM eduai.run_maintenance('retain_consents');
SELECT eduai.set_retention('consents', '1 year', 'anonymise');
SELECT eduai.set_retention('consents', NULL, 'delete');
DELETE FROM eduai.consent;
DELETE FROM eduai.maintenance_run WHERE job = 'retain_consents';
