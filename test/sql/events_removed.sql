-- Events that an administrator removes by SQL: what shared memory knows of their
-- streams is void, and appends go on from what is there.
SELECT eduai.allow_tenant(current_user, 'removed'), eduai.allow_tenant(current_user, 'kept');
SET eduai.tenant = 'kept';
SELECT version FROM eduai.append_event('r-1', 't');
SET eduai.tenant = 'removed';
SELECT version FROM eduai.append_event('r-2', 't');
SELECT version FROM eduai.append_event('r-1', 't');
SELECT version FROM eduai.append_event('r-1', 't');
SELECT version FROM eduai.append_event('r-1', 't');

-- rolled back: nothing has changed
BEGIN;
DELETE FROM eduai.event WHERE tenant_id = 'removed';
SELECT version FROM eduai.append_event('r-1', 't');
ROLLBACK;
SELECT version FROM eduai.append_event('r-1', 't');

-- some events of a stream
DELETE FROM eduai.event WHERE tenant_id = 'removed' AND stream = 'r-1' AND version > 2;
SELECT eduai.stream_version('r-1');
SELECT version FROM eduai.append_event('r-1', 't');
SELECT version FROM eduai.append_event('r-1', 't', expected_version => 3);

-- all of the tenant's, and another's stay
DELETE FROM eduai.event WHERE tenant_id = 'removed';
DELETE FROM eduai.event_order WHERE tenant_id = 'removed';
SET eduai.tenant = 'kept';
SELECT version FROM eduai.append_event('r-1', 't');
SET eduai.tenant = 'removed';
SELECT count(*) FROM eduai.read_all();
SELECT version FROM eduai.append_event('r-1', 't', expected_version => 0);
SELECT version FROM eduai.append_event('r-2', 't');
SELECT stream, version FROM eduai.read_all() ORDER BY "position";

DELETE FROM eduai.event WHERE tenant_id IN ('removed', 'kept');
DELETE FROM eduai.event_order WHERE tenant_id IN ('removed', 'kept');
SELECT eduai.disallow_tenant(current_user, 'removed'), eduai.disallow_tenant(current_user, 'kept');
