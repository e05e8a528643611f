# The key is destroyed after the commit of the intent, never before; an erasure goes
# on where it was after the server was killed.

use strict;
use warnings;

use EduaiSession;
use EduaiErasure;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $node = new_node(conf => { 'eduai.test_mode' => 'on', autovacuum => 'off', 'eduai.key_store' => "$dir/keys", 'eduai.compact_after' => '-1' });

sub value { return $node->safe_psql('postgres', $_[0]) }
sub events { my ($user, $n, $stream) = @_; return value(qq{SELECT count(*) FROM generate_series(1, $n) n, LATERAL eduai.append_event(@{[ $stream ? "'$stream'" : "'learner-$user'" ]}, 'diary', jsonb_build_object('text', 'words of $user', 'n', n), '$user')}) }
sub words { my ($user) = @_; return value(qq{SELECT count(*) FROM eduai.read_stream('learner-$user') WHERE data ->> 'text' = 'words of $user'}) }
sub has_key { my ($user) = @_; return value("SELECT eduai.test_destroy_key('$user')") }

value(q{SELECT eduai.create_key_store(); SELECT eduai.register_event_type('diary', '{text}')});

# ---- the key ----

events('gus', 3);
is(value(q{BEGIN; SELECT eduai.erase_user('gus') IS NOT NULL; ROLLBACK}), 't', 'an erasure that is rolled back');
is(words('gus'), '3', 'leaves the key');
value(q{BEGIN; SELECT eduai.erase_user('gus'); PREPARE TRANSACTION 'gus'});
is(words('gus'), '3', 'so does one that is prepared');
value(q{ROLLBACK PREPARED 'gus'});
is(words('gus'), '3', 'and then rolled back');
value(q{SELECT eduai.test_pause('privacy-ledger-written', true); BEGIN; SELECT eduai.erase_user('gus'); PREPARE TRANSACTION 'gus'});
$node->stop('immediate');
$node->start;
is(words('gus'), '3', 'and over a crash');
value(q{SELECT eduai.test_pause('privacy-ledger-written', true)});
value(q{COMMIT PREPARED 'gus'});
wait_until(sub { value(q{SELECT eduai.test_paused('privacy-ledger-written')}) > 0 }, 30, 'the keeper is before the key');
is(words('gus'), '3', 'the key is there between the commit and its destruction');
is(value(q{SELECT keys_destroyed_at IS NULL FROM eduai.erasure_status}), 't', 'which has not been');
$node->stop('immediate');
$node->start;
erasures_complete($node);
is(has_key('gus'), 'f', 'killed between them: it is destroyed after the restart');
is(value(q{SELECT keys_destroyed_at < completed_at FROM eduai.erasure_status}), 't', 'before the end');

# ---- it goes on where it was ----

events('hal', 1000);
events('ida', 200);
value(q{SELECT eduai.compact_events('0')});
events('hal', 5000);
# The keeper is held in the second part that goes through hot events.
value(q{CREATE TABLE way (n serial, was text, is_now text, source text);
	CREATE FUNCTION walked() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO public.way (was, is_now, source) VALUES (old.cursor, new.cursor, new.source);
		IF old.cursor ~ '^hot [1-9]' AND NOT EXISTS (SELECT FROM public.held) THEN PERFORM eduai.test_pause('privacy-step-done', true); END IF;
		RETURN NULL; END $$;
	CREATE TABLE held ();
	CREATE TRIGGER walked AFTER UPDATE ON eduai.erasure_step FOR EACH ROW EXECUTE FUNCTION walked();
	SELECT eduai.erase_user('hal')});
wait_until(sub { value(q{SELECT eduai.test_paused('privacy-step-done')}) > 0 }, 60, 'the keeper is amid the hot events');
my $cursor = value(q{SELECT cursor FROM eduai.erasure_step WHERE source = 'events'});
my $before = value('INSERT INTO held DEFAULT VALUES; SELECT max(n) FROM way');
$node->stop('immediate');
$node->start;
erasures_complete($node);
is(value("SELECT was FROM way WHERE n > $before AND source = 'events' ORDER BY n LIMIT 1"), $cursor, 'after a crash it goes on where it was');
is(value("SELECT count(*) FROM way WHERE n > $before AND source = 'events' AND (is_now IS NULL OR is_now = 'hot 0')"), '0', 'and never begins again');
is(value(q{SELECT removed ->> 'events' FROM eduai.erasure_status WHERE completed_at IS NOT NULL ORDER BY requested_at DESC LIMIT 1}), '6000', 'each event was removed once');
is(value(q{SELECT count(*) FROM eduai.export_user_rows('hal')}), '0', 'nothing is left');
is(words('ida'), '200', 'the other learner has everything');
value('DROP FUNCTION walked() CASCADE');

done_testing();
