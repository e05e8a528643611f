# Sealed fields of events in compacted blocks: read in clear by whoever may, null for
# others, nowhere in the blocks and dictionaries in clear; and unreadable once the
# learner's key is gone, while the others' stay.

use strict;
use warnings;

use EduaiTest;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $node = new_node(conf => { 'eduai.key_store' => "$dir/keys", 'eduai.compact_after' => '-1', 'eduai.test_mode' => 'on', autovacuum => 'off' });

sub value { return $node->safe_psql('postgres', $_[0]) }

# How many of a learner's events show the words, how many null, how many what is sealed.
sub seen
{
	my ($user, $role) = @_;
	return value(($role ? "SET ROLE $role; " : '') . qq{SELECT count(*), count(*) FILTER (WHERE data->>'words' LIKE 'SECRET said by $user %'),
		count(*) FILTER (WHERE data->'words' = 'null'), count(*) FILTER (WHERE data->'words' ? '\$sealed') FROM eduai.read_stream('learner-$user', 0, 1000)});
}

sub set_store
{
	my ($store) = @_;
	$node->append_conf('postgresql.conf', "eduai.key_store = '$store'\n");
	$node->reload;
	wait_until(sub { value('SHOW eduai.key_store') eq $store }, 10, 'the setting');
}

value(q{
	SELECT eduai.create_key_store();
	CREATE ROLE app; GRANT eduai_app TO app;
	CREATE ROLE clerk; GRANT eduai_admin TO clerk; GRANT EXECUTE ON FUNCTION eduai.read_stream(text, bigint, int, boolean) TO clerk;
	SELECT eduai.register_event_type('diary', '{words}')});
# of one kind and much alike, so that dictionaries are trained on what is there
value(qq{SELECT count(*) FROM generate_series(1, 500) n, LATERAL eduai.append_event('learner-$_', 'diary',
	jsonb_build_object('words', 'SECRET said by $_ ' || n, 'shown', 'PLAIN ' || n), '$_')}) for qw(ann ben);
cmp_ok(value(q{SELECT eduai.compact_events('0 s')}), '>', 0, 'all is compacted');
is(value(q{SELECT count(*) FROM eduai.event}), '0', 'nothing of it is left elsewhere');

is(seen('ann', 'app'), '500|500|0|0', 'the application reads them in clear');
is(seen('ann', 'clerk'), '500|0|500|0', 'others see null');
is(value(q{SET ROLE clerk; SELECT count(*) FROM eduai.read_stream('learner-ann', 0, 1000) WHERE data->>'shown' LIKE 'PLAIN%'}), '500', 'and what is not sensitive');

# Without a key store nobody opens anything: blocks are decompressed and shown as they are.
set_store('');
is(seen('ann'), '500|0|0|500', 'in the blocks they are sealed');
is(value(q{SELECT count(*) FROM eduai.read_all(0, 10000) e WHERE e::text LIKE '%SECRET%'}), '0', 'and nowhere in clear');
is(value(q{SELECT count(*) FROM eduai.event_dictionary d WHERE position('SECRET'::bytea IN d.body) > 0}), '0', 'nor in a dictionary');
set_store("$dir/keys");

is(value(q{SELECT eduai.test_destroy_key('ann')}), 't', 'a key is destroyed');
is(seen('ann', 'app'), '500|0|500|0', 'what it sealed is unreadable in blocks, too');
is(seen('ben', 'app'), '500|500|0|0', 'what others sealed is as it was');
$node->restart;
is(seen('ann', 'app') . ' ' . seen('ben', 'app'), '500|0|500|0 500|500|0|0', 'after a restart, too');

# Erasure rewrites the blocks: not even what is sealed is left.
value(q{SELECT eduai.erase_user('ann')});
wait_until(sub { value('SELECT count(*) FROM eduai.erasure WHERE completed_at IS NULL') eq '0' }, 60, 'the erasure is complete');
is(value(q{SELECT count(*) FROM eduai.read_all(0, 10000) e WHERE user_id = 'ann'}), '0', 'erased, they are gone');
is(seen('ben', 'app'), '500|500|0|0', 'the other learner of the same blocks reads on');
$node->stop;
done_testing();
