# What is sealed under a learner's key is nowhere in clear, and nowhere readable
# once the learner is erased: not in data files, TOAST, WAL, logs, dumps or slots,
# in clear, in base64 or compressed; nor in a base backup of before, started
# beside today's key store.

use strict;
use warnings;

use EduaiTest;
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $node = new_node(conf => { wal_level => 'logical', max_wal_senders => 4, max_replication_slots => 4, autovacuum => 'off', log_statement => 'none',
	'eduai.key_store' => "$dir/keys", 'eduai.compact_after' => '-1' });
my $canary = 'CANARY-Xq7-diary-of-a-child';

sub value { return $node->safe_psql('postgres', $_[0]) }

# The canary as it is, and as base64 shows it at each of three offsets.
my @needles = ($canary, map { my $text = encode_base64(('x' x $_) . $canary, ''); substr($text, 4, length($text) - 12) } 0 .. 2);

# The files below a directory that show a needle. Blocks hold what was sealed before
# it was compressed: that they show nothing the backup below proves, by reading them.
sub files_with
{
	my ($root) = @_;
	my @found;
	my @todo = ($root);
	while (defined(my $path = shift @todo))
	{
		if (-d $path)
		{
			opendir my $d, $path or next;
			push @todo, map { "$path/$_" } grep { !/^\.\.?$/ } readdir $d;
			next;
		}
		next unless -f $path;
		my $bytes = slurp_file($path);
		push @found, $path if grep { index($bytes, $_) >= 0 } @needles;
	}
	return "@found";
}

value('SELECT eduai.create_key_store()');
value(q{SELECT eduai.register_event_type('diary', '{text}')});
# The client writes it, not the server's log: by psql's own statement.
value(qq{SELECT count(*) FROM generate_series(1, 200) n, LATERAL eduai.append_event('learner-mia', 'diary', jsonb_build_object('text', '$canary ' || repeat(md5(n::text), 200), 'n', n), 'mia')});
value(q{SELECT eduai.compact_events('0')});
value(q{SELECT pg_create_logical_replication_slot('watch', 'test_decoding')});
value(qq{SELECT count(*) FROM generate_series(1, 200) n, LATERAL eduai.append_event('learner-mia', 'diary', jsonb_build_object('text', '$canary ' || repeat(md5(n::text), 200), 'n', n), 'mia')});
value(qq{SELECT eduai.enqueue('custom', jsonb_build_object('text', '$canary', 'n', 1), user_id => 'mia', metadata => '{"sensitive": ["text"]}')});
is(value(qq{SELECT count(*) FROM eduai.read_stream('learner-mia') WHERE data ->> 'text' LIKE '$canary%'}), '400', 'who may sees it in clear');
is(value(q{SELECT count(*) FROM eduai.read_stream('learner-mia') WHERE data ? 'n'}), '400', 'with what is not sensitive');
value('CHECKPOINT');
is(files_with($node->data_dir), '', 'no file of the server shows it, before the erasure already');
is(files_with($node->logfile), '', 'nor does the log');
$node->backup('before');

is(value(q{BEGIN; SELECT eduai.erase_user('mia') IS NOT NULL; ROLLBACK; SELECT count(*) FROM eduai.read_stream('learner-mia') WHERE data ->> 'text' LIKE 'CANARY%'}), "t\n400", 'rolled back: the key is there');
value(q{SELECT eduai.erase_user('mia')});
wait_until(sub { value('SELECT count(*) FROM eduai.erasure WHERE completed_at IS NULL') eq '0' }, 60, 'the erasure is complete');
is(value(q{SELECT keys_destroyed_at IS NOT NULL AND keys_destroyed_at < completed_at FROM eduai.erasure_status}), 't', 'the key was destroyed first');
is(value(q{SELECT count(*) FROM eduai.read_all() WHERE user_id = 'mia'}), '0', 'nothing is left');
is(index($node->safe_psql('postgres', q{SELECT data FROM pg_logical_slot_get_changes('watch', NULL, NULL)}), $canary), -1, 'a slot of before does not show it');
$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', "$dir/dump.sql" ], 'a dump');
is(files_with("$dir/dump.sql"), '', 'does not show it');
value('CHECKPOINT');
is(files_with($node->data_dir), '', 'no file of the server shows it');

# The backup of before still has the rows; the key store of today does not open them.
my $old = PostgreSQL::Test::Cluster->new('old');
$old->init_from_backup($node, 'before');
$node->stop;
$old->start;
is($old->safe_psql('postgres', q{SELECT count(*) FROM eduai.read_stream('learner-mia')}), '400', 'a backup of before has the events');
is($old->safe_psql('postgres', qq{SELECT count(*) FROM eduai.read_stream('learner-mia') WHERE data::text LIKE '%$canary%'}), '0', 'but what was sealed is unreadable');
is($old->safe_psql('postgres', qq{SELECT count(*) FROM eduai.export_user_rows('mia') e WHERE e::text LIKE '%$canary%'}), '0', 'in an export, too');
like($old->safe_psql('postgres', q{SELECT string_agg(code, ' ') FROM eduai.health_problems()}), qr/erasures_missing/, 'health() knows from the ledger that an erasure is missing');
is($old->safe_psql('postgres', q{SELECT eduai.apply_erasures()}), '1', 'it is applied');
wait_until(sub { $old->safe_psql('postgres', 'SELECT count(*) FROM eduai.erasure WHERE completed_at IS NULL') eq '0' }, 60, 'and carried out');
is($old->safe_psql('postgres', q{SELECT count(*) FROM eduai.read_all() WHERE user_id = 'mia'}), '0', 'nothing is left there either');
$old->stop;
done_testing();
