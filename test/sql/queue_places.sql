-- Where a task's request lies is remembered beside its row: a place that is wrong,
-- as after a restore or a rewrite of the table, gives nobody another task's request.
\pset format unaligned
\pset tuples_only on
SELECT eduai.configure_pool('queue_places', '{}', 10);
SELECT eduai.define_task_type('queue_places', 'application', 'queue_places');
SELECT eduai.allow_tenant(current_user::text, 'queue_places');
SET eduai.tenant = 'queue_places';
SELECT eduai.enqueue('queue_places', '{"n": 1}', expires_at => now() + interval '1 day') AS a, eduai.enqueue('queue_places', '{"n": 2}', expires_at => now() + interval '1 day') AS b,
	eduai.enqueue('queue_places', '{"n": 3}', expires_at => now() + interval '1 day') AS c, eduai.enqueue('queue_places', '{"n": 4}', expires_at => now() + interval '1 day') AS d \gset
-- each is right at first
SELECT count(*) FROM eduai.task_live l JOIN eduai.task_request r ON r.ctid = l.request AND r.task_id = l.task_id
WHERE l.tenant_id = 'queue_places';
-- another's, one that is beyond the table, none
UPDATE eduai.task_live l SET request = (SELECT ctid FROM eduai.task_request r WHERE r.task_id = :b) WHERE l.task_id = :a;
UPDATE eduai.task_live SET request = '(4000000000,1)' WHERE task_id = :c;
UPDATE eduai.task_live SET request = NULL WHERE task_id = :d;
SELECT payload FROM eduai.claim_tasks('w', '{queue_places}', 10) ORDER BY task_id;
-- where the rows lie is remembered, too: they move, and ends find them
UPDATE eduai.task_live SET progress = '{"current": 1}' WHERE tenant_id = 'queue_places';
SELECT eduai.complete_task(:a, 1, '"a"');
SELECT eduai.complete_tasks(ARRAY[:b, :c, :d], '{1,1,1}', ARRAY['"b"', '"c"', '"d"']::jsonb[]);
SELECT state, result FROM eduai.get_tasks(ARRAY[:a, :b, :c, :d]);
SELECT eduai.disallow_tenant(current_user::text, 'queue_places');
