# What is sealed under a learner's key is nowhere in clear, and nowhere readable
# once the learner is erased: not in data files, TOAST, WAL, logs, dumps, slots or
# statistics, in clear, in base64 or inside zstd frames; nor in a base backup of
# before, started beside today's key store.

use strict;
use warnings;

use EduaiTest;
use PostgreSQL::Test::Utils qw(slurp_file append_to_file);
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $node = new_node(conf => { wal_level => 'logical', max_wal_senders => 4, max_replication_slots => 4, autovacuum => 'off', log_statement => 'none',
	'eduai.test_mode' => 'on', 'eduai.key_store' => "$dir/keys", 'eduai.compact_after' => '-1' });
# what is sealed, and, as a proof that the search finds what is there, what is not
my ($canary, $plain) = ('Xq7Zk2Wv9Jm4Tp8Rn3Bd6Hy', 'Lc5Fg1Sy0Ub8Ew4Qh6Nt2Dz');

sub value { return $node->safe_psql('postgres', $_[0]) }

my @dictionaries;

# Which files below the paths show the needle, and how.
sub found
{
	my ($needle, @paths) = @_;
	open my $scan, '-|', 'python3', 'test/tap/canary_scan.py', (map { ('-d', $_) } @dictionaries), $needle, @paths or die;
	my @lines = <$scan>;
	close $scan or die 'the search failed';
	chomp @lines;
	return @lines;
}

sub kinds { my %how = map { /: (\w+)$/ ? ($1 => 1) : () } @_; return join ' ', sort keys %how }

# All that SQL says of tables, slots and statistics, as a dump of before or after.
sub write_all
{
	my ($name) = @_;
	for my $format ('plain', 'custom')
	{
		$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), "-F$format", '-f', "$dir/$name.$format" ], "$name: a dump, $format");
	}
	append_to_file("$dir/$name.slot", value(q{SELECT data FROM pg_logical_slot_peek_changes('watch', NULL, NULL)}));
	append_to_file("$dir/$name.statistics", value(q{ANALYZE; SELECT s::text FROM pg_stats s WHERE schemaname = 'eduai'; SELECT e::text FROM pg_stats_ext e; SELECT query FROM pg_stat_activity WHERE pid <> pg_backend_pid()}));
	value('CHECKPOINT');
	return ($node->data_dir, $node->logfile, map { "$dir/$name.$_" } qw(plain custom slot statistics));
}

# ---- all that is sealed, in every place ----

my $diaries = sub { return qq{SELECT count(*) FROM generate_series($_[0], $_[0] + 59) n, LATERAL eduai.append_event('learner-mia', 'diary', jsonb_build_object('text', '$canary ' || repeat(md5(n::text), 200), 'n', n, 'open', '$plain'), 'mia')} };
value('SELECT eduai.create_key_store()');
value(q{SELECT eduai.register_event_type('diary', '{text}')});
value(q{SELECT pg_create_logical_replication_slot('watch', 'test_decoding')});
# as much alike as a dictionary needs, some of it of other learners
value(qq{SELECT count(*) FROM generate_series(1, 2400) n, LATERAL eduai.append_event('class-' || n % 800, 'diary',
	jsonb_strip_nulls(jsonb_build_object('text', CASE WHEN n % 10 = 0 THEN '$canary' END, 'n', n, 'open', '$plain', 'course', 'introduction to reading ' || n % 7,
		'chapter', 'the chapter of long division ' || n % 11, 'device', 'tablet of the school library ' || n % 5)), CASE WHEN n % 10 = 0 THEN 'u' || n % 800 END)});
value(q{SELECT eduai.compact_events('0')});
value($diaries->(1));
value(q{SELECT eduai.compact_events('0')});
value($diaries->(61));
value(qq{SELECT eduai.save_snapshot('learner-mia', 100, (SELECT data FROM eduai.event WHERE user_id = 'mia' LIMIT 1))});
my $enqueue = sub { return value(qq{SELECT eduai.enqueue('custom', jsonb_build_object('text', '$canary', 'n', 1), user_id => 'mia', max_attempts => 2, metadata => '{"sensitive": ["text"]}')}) };
my %task = map { $_ => $enqueue->() } qw(completed dead running waiting);
my %attempt = map { split /\|/ } split /\n/, value(q{SELECT task_id, attempt FROM eduai.claim_tasks('w', '{custom}', 3)});
is(join(' ', sort keys %attempt), join(' ', sort map { $task{$_} } qw(completed dead running)), 'tasks run');
value(qq{SELECT eduai.extend_lease($_, 1, '1 h', '{"message": "$canary"}')}) for sort keys %attempt;
value(qq{SELECT eduai.append_output($task{running}, 1, '$canary')});
value(qq{SELECT eduai.complete_task($task{completed}, 1, jsonb_build_object('text', '$canary ' || repeat(md5('r'), 200)))});
value(qq{SELECT eduai.fail_task($task{dead}, 1, 'says $canary', retry => false)});
my $file = value(qq{SELECT eduai.attach(convert_to(repeat('$canary', 500), 'UTF8'), 'image/png', 'mia')});
value(qq{SELECT eduai.cache_set('diary', to_jsonb('$canary'::text), tags => '{mia}')});

is(value(qq{SELECT count(*) FROM eduai.read_stream('learner-mia') WHERE data ->> 'text' LIKE '$canary%'}), '120', 'who may sees it in clear');
my $seen = sub {
	my ($server) = @_;
	return $server->safe_psql('postgres', qq{SELECT count(*) FILTER (WHERE v LIKE '%$canary%') FROM (SELECT t::text FROM eduai.get_tasks('{$task{completed},$task{dead},$task{running}}') t
		UNION ALL SELECT convert_from(data, 'UTF8') FROM eduai.attachment('$file')) x (v)});
};
is($seen->($node), '4', 'tasks and an attachment, too');
cmp_ok(value(q{SELECT count(*) FROM eduai.event_dictionary}), '>', 0, 'blocks have a dictionary');
for my $row (split /\n/, value(q{SELECT tenant_id || dictionary || '|' || encode(body, 'hex') FROM eduai.event_dictionary}))
{
	my ($name, $hex) = split /\|/, $row;
	append_to_file("$dir/dictionary.$name", pack('H*', $hex));
	push @dictionaries, "$dir/dictionary.$name";
}
my @all = write_all('before');
my @shown = found($plain, @all);
is(kinds(@shown), 'clear hex zlib zstd', 'the search finds what is in clear, in each way');
for my $where ([ 'base/', 'clear' ], [ 'base/', 'zstd' ], [ 'pg_wal/', 'clear' ], [ 'before.plain', 'clear' ], [ 'before.plain', 'zstd' ], [ 'before.custom', 'zlib' ], [ 'before.custom', 'zstd' ], [ 'before.slot', 'clear' ])
{
	ok((grep { /\Q$where->[0]\E.*: $where->[1]$/ } @shown), "$where->[1] in $where->[0]");
}
is(join("\n", found($canary, @all)), '', 'of what is sealed nothing, before the erasure already');
is(join("\n", found($canary, @dictionaries)), '', 'nor in the dictionaries');
$node->backup('before');

# ---- erased ----

is(value(q{BEGIN; SELECT eduai.erase_user('mia') IS NOT NULL; ROLLBACK; SELECT count(*) FROM eduai.read_stream('learner-mia') WHERE data ->> 'text' LIKE '%Zk2Wv%'}), "t\n120", 'rolled back: the key is there');
value(q{SELECT eduai.erase_user('mia')});
wait_until(sub { value('SELECT count(*) FROM eduai.erasure WHERE completed_at IS NULL') eq '0' }, 60, 'the erasure is complete');
is(value(q{SELECT keys_destroyed_at IS NOT NULL AND keys_destroyed_at < completed_at FROM eduai.erasure_status}), 't', 'the key was destroyed first');
is(value(q{SELECT count(*) FROM eduai.read_all() WHERE user_id = 'mia'}), '0', 'nothing is left');
is($seen->($node), '0', 'of tasks and attachments neither');
is(value(q{SELECT coalesce(eduai.cache_get('diary')::text, '-')}), '-', 'nor in the cache');
is(value("SELECT count(*) FROM eduai.task_output($task{running}, 0, '0 s') WHERE delta IS NOT NULL"), '0', 'nor of what was streamed');
is(join("\n", found($canary, write_all('after'))), '', 'no file, dump, slot or statistic shows it');

# ---- a backup of before still has the rows; the key store of today does not open them ----

my $old = PostgreSQL::Test::Cluster->new('old');
$old->init_from_backup($node, 'before');
$node->stop;
$old->start;
is($old->safe_psql('postgres', q{SELECT count(*) FROM eduai.read_stream('learner-mia') WHERE event_type = 'diary'}), '120', 'a backup of before has the events');
is($old->safe_psql('postgres', qq{SELECT count(*) FROM eduai.read_stream('learner-mia') WHERE data::text LIKE '%$canary%'}), '0', 'but what was sealed is unreadable');
is($seen->($old), '0', 'in tasks and attachments, too');
is($old->safe_psql('postgres', qq{SELECT count(*) FROM eduai.export_user_rows('mia') e WHERE e::text LIKE '%$canary%'}), '0', 'and in an export');
is($old->safe_psql('postgres', qq{SELECT count(*) FROM eduai.read_stream('class-10') WHERE data ->> 'text' = '$canary'}), '3', 'others are read as ever');
is(join("\n", found($canary, $old->data_dir, $old->logfile)), '', 'no file of its shows it');
like($old->safe_psql('postgres', q{SELECT string_agg(code, ' ') FROM eduai.health_problems()}), qr/erasures_missing/, 'health() knows from the ledger that an erasure is missing');
is($old->safe_psql('postgres', q{SELECT eduai.apply_erasures()}), '1', 'it is applied');
wait_until(sub { $old->safe_psql('postgres', 'SELECT count(*) FROM eduai.erasure WHERE completed_at IS NULL') eq '0' }, 60, 'and carried out');
is($old->safe_psql('postgres', q{SELECT count(*) FROM eduai.read_all() WHERE user_id = 'mia'}), '0', 'nothing is left there either');
$old->stop;
done_testing();
