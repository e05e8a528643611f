# An erasure that has to wait: a transaction that looked before it was asked for
# writes after, what comes between is prepared, a table of the application refuses.

use strict;
use warnings;

use EduaiErasure;
use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $node = new_node(conf => {
	'eduai.test_mode' => 'on', 'eduai.database' => 'postgres', autovacuum => 'off',
	'eduai.key_store' => "$dir/keys", 'eduai.compact_after' => '-1' });
my $db = 'postgres';

sub value { return $node->safe_psql($_[1] // $db, $_[0]) }
sub failure { my (undef, undef, $err) = $node->psql($db, "\\set VERBOSITY verbose\n$_[0]"); return $err =~ /ERROR:\s+(\w+)/ ? $1 : $err }
value('SELECT eduai.create_key_store()');
# of another: the class is not the learners' alone
learner($node, 'bea', 1);

# ---- those who looked before ----

my $early = EduaiSession->new($node);
learner($node, 'dora', 10);
$early->ask(q{BEGIN; SELECT eduai.enqueue('custom', '{"text": "data-of-dora, late"}', user_id => 'dora') IS NOT NULL; SELECT version FROM eduai.append_event('stream-2-of-dora', 'x', '{}', 'dora');});
value(q{SELECT eduai.erase_user('dora')});
wait_until(sub { value(q{SELECT count(*) FROM eduai.erasure_step WHERE done AND source IN ('tasks', 'events')}) eq '2' }, 30, 'what can be removed is');
is(value(q{SELECT completed_at IS NULL FROM eduai.erasure_status ORDER BY requested_at DESC LIMIT 1}), 't', 'it is not complete while somebody older runs');
$early->ask('COMMIT;');
erasures_complete($node);
is(traces($node, 'dora'), '', 'what was written late is gone, too');
$early->quit;

learner($node, 'eva', 10);
value(q{BEGIN; SELECT eduai.enqueue('custom', '{"text": "data-of-eva, prepared"}', user_id => 'eva') IS NOT NULL; PREPARE TRANSACTION 'eva'});
value(q{SELECT eduai.erase_user('eva')});
wait_until(sub { value(q{SELECT count(*) FROM eduai.erasure_step WHERE done AND source IN ('tasks', 'events')}) eq '2' }, 30, 'what can be removed is');
value(q{COMMIT PREPARED 'eva'});
erasures_complete($node);
is(traces($node, 'eva'), '', 'what was prepared before is gone');

# ---- a step that is rolled back ----

# What it had found out of streams is found out again.
learner($node, 'gus', 5);
value(q{SELECT eduai.compact_events('0')});
my $holder = EduaiSession->new($node);
$holder->ask('BEGIN; SELECT count(*) FROM (SELECT FROM eduai.event_block FOR UPDATE) b;');
value(q{SELECT eduai.erase_user('gus')});
wait_until(sub { value(q{SELECT count(*) FROM eduai.erasure_step WHERE source = 'events' AND error LIKE '55P03%'}) eq '1' }, 20, 'blocks are held');
$holder->ask('COMMIT;');
erasures_complete($node);
$holder->quit;
is(traces($node, 'gus'), '', 'erased all the same');
is(failure(q{SELECT eduai.append_event('stream-of-gus', 'x')}), 'UE008', 'the stream that was the learner\'s alone takes nothing more');

# ---- prepared ----

# An erasure that is prepared holds only when it is committed.
learner($node, 'fay', 5);
value(q{BEGIN; SELECT eduai.erase_user('fay'); PREPARE TRANSACTION 'fay'});
value(q{ROLLBACK PREPARED 'fay'});
is(value(q{SELECT version FROM eduai.append_event('learner-fay', 'x', '{}', 'fay')}), '6', 'rolled back: nothing happened');
value(q{BEGIN; SAVEPOINT s; SELECT eduai.erase_user('fay'); ROLLBACK TO s; SELECT eduai.publish_event('x', 'fay', NULL); COMMIT});
is(value(q{SELECT eduai.stream_version('learner-fay')}), '7', 'nor with a savepoint');
value(q{BEGIN; SELECT eduai.erase_user('fay'); PREPARE TRANSACTION 'fay'});
value(q{COMMIT PREPARED 'fay'});
wait_until(sub { value(q{SELECT count(*) FROM eduai.erasure}) eq '4' }, 5, 'it is there');
erasures_complete($node);
is(traces($node, 'fay'), '', 'committed: erased');

# ---- the application's own tables ----

value(q{CREATE TABLE public.pupil (id int PRIMARY KEY, school text, name text, mark int); CREATE TABLE public.essay (pupil text, words text);
	INSERT INTO pupil VALUES (1, 'default', 'data-of-1', 3), (2, 'default', 'Bea', 2), (3, 'elsewhere', 'other', 1);
	INSERT INTO essay SELECT '1', 'data-of-1' FROM generate_series(1, 5000); INSERT INTO essay VALUES ('2', 'of another');
	SELECT eduai.register_personal_data('pupil', 'id', 'delete', tenant_column => 'school');
	SELECT eduai.register_personal_data('essay', 'pupil');
	CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'exams are on'; END $$;
	CREATE TRIGGER refuse BEFORE DELETE ON pupil FOR EACH ROW EXECUTE FUNCTION refuse()});
value(q{SELECT eduai.erase_user('1')});
wait_until(sub { value(q{SELECT coalesce((SELECT remaining -> 'table:public.pupil.id' ->> 'error' FROM eduai.erasure_status WHERE completed_at IS NULL), '')}) eq 'P0001: exams are on' }, 20, 'the error is told');
wait_until(sub { value(q{SELECT count(*) FROM essay WHERE pupil = '1'}) eq '0' }, 20, 'the others are done meanwhile');
value(q{DROP TRIGGER refuse ON pupil});
# afterwards: an attempt that met the trigger has told when it is tried again
value(q{UPDATE eduai.erasure_step SET retry_at = NULL});
$node->restart;
erasures_complete($node);
is(value(q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM pupil}), '2 3', 'a table is rid of the learner, of this tenant only');
is(value(q{SELECT string_agg(pupil, ' ') FROM essay}), '2', 'so is the other');

done_testing();
