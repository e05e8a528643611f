
# Learners' keys while they change: made by two at once, by a process that dies,
# wrapped anew under load, destroyed, and beside a base backup from before that.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Fcntl qw(:flock);
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(
	start => 0,
	name => 'changes',
	fsync => 1,
	conf => { 'eduai.test_mode' => 'on', wal_level => 'replica', max_wal_senders => 4 });
my $store = $node->basedir . '/key.store';
$node->append_conf('postgresql.conf', "eduai.key_store = '$store'\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION eduai; SELECT eduai.create_key_store()');
my $session = EduaiSession->new($node);

sub ask { return $session->ask($_[0]) }

sub publish
{
	my ($user, $answer) = @_;
	return "SELECT count(eduai.publish_event('exercise_attempted', '$user', NULL, '{\"answer\": \"$answer\"}'));";
}

sub answers
{
	my ($user, $in) = @_;
	return ($in // $session)->ask("SELECT string_agg(coalesce(data->>'answer', '-'), ',' ORDER BY data->>'answer') FROM eduai.read_stream('learner-$user');");
}

# how many slots of the store have a key: the bytes of a copy that say so, after its checksum
sub keys_in_store
{
	my $all = slurp_file($store);
	my $n = 0;
	for (my $at = 4096; $at < length $all; $at += 512)
	{
		my @copies = map { [ unpack 'x4LQ', substr($all, $at + $_ * 256, 256) ] } 0, 1;
		my ($last) = sort { $b->[1] <=> $a->[1] } @copies;
		$n++ if $last->[0] == 1;
	}
	return $n;
}

# the numbers of each slot's copies, and whether any copy has a key or an owner in it
sub slots_of_store
{
	my $all = slurp_file($store);
	return map {
		my $at = $_;
		my @copies = map { [ unpack 'x4LQ', substr($all, $at + $_ * 256, 256) ] } 0, 1;
		my ($last) = sort { $b->[1] <=> $a->[1] } @copies;
		{ seq => $last->[1], used => scalar(grep { substr($all, $at + $_ * 256 + 16, 240) =~ /[^\0]/ } 0, 1) }
	} map { 4096 + 512 * $_ } 0 .. (length($all) - 4096) / 512 - 1;
}

sub hold_store
{
	open my $held, '+<', $store or die;
	flock $held, LOCK_EX or die;
	return $held;
}

# waits until that many sessions sleep on the store's lock
sub wait_for_waiters
{
	my ($n) = @_;
	# they wake every few milliseconds: seen once each
	my %seen;
	wait_until(
		sub {
			$seen{$_} = 1 for split /\n/, $node->safe_psql('postgres',
				q{SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query LIKE '%publish_event%' AND pid <> pg_backend_pid()});
			return keys(%seen) >= $n;
		}, 20, "$n wait for the store");
	return;
}

# ---- two make the key of one learner at once ----

my @rivals = map { EduaiSession->new($node) } 1 .. 2;
my $held = hold_store();
$rivals[$_]->send("SELECT count(eduai.append_event('s-$_', 'exercise_attempted', '{\"answer\": \"$_ publish_event\"}', 'ann'));") for 0, 1;
wait_for_waiters(2);
is(keys_in_store(), 0, 'nobody writes past the lock');
close $held;
is($rivals[$_]->answer(20), '1', "rival $_ has stored") for 0, 1;
is(keys_in_store(), 1, 'one key');
is($rivals[1 - $_]->ask("SELECT data->>'answer' FROM eduai.read_stream('s-$_');"), "$_ publish_event", 'that opens both') for 0, 1;
is(ask("SELECT data->>'answer' FROM eduai.read_stream('s-0') UNION ALL SELECT data->>'answer' FROM eduai.read_stream('s-1');"),
	"0 publish_event\n1 publish_event", 'for everybody');

# ---- a transaction that is rolled back, a process that dies ----

ask('BEGIN; ' . publish('bea', 'gone') . ' ROLLBACK;');
is(keys_in_store(), 2, 'a key stays when its transaction is rolled back');
is(ask(publish('bea', 'stays')), '1', 'and is used by the next');
is(answers('bea'), 'stays', 'which reads');
$held = hold_store();
my $pid = $rivals[0]->ask('SELECT pg_backend_pid();');
$rivals[0]->send(publish('cyd', 'lost'));
wait_for_waiters(1);
kill 'KILL', $pid;
wait_until(sub { (try_query($node, 'SELECT 1') // '') eq '1' && !defined $rivals[0]->answer(20) }, 30, 'the crash is over');
close $held;
wait_until(sub { defined try_query($node, 'SELECT 1') }, 30, 'the server is up');
$session = EduaiSession->new($node);
is(keys_in_store(), 2, 'who was killed has made no key');
is(ask(publish('cyd', 'after')), '1', 'and holds nothing');
is(answers('ann') . answers('bea') . answers('cyd'), 'staysafter', 'all that was committed reads') or diag(answers('ann'));
$node->stop('immediate');
$node->start;
$session = EduaiSession->new($node);
is(answers('bea') . answers('cyd'), 'staysafter', 'after another crash, too');

# ---- rotation under load ----

is(ask('SELECT eduai.rotate_master_key();'), '0', 'nothing to do');
ask("SELECT count(eduai.publish_event('exercise_attempted', 'old-' || i, NULL, jsonb_build_object('answer', i))) FROM generate_series(1, 200) i;");
write_master_key($node, 'next', 'test');
is(ask("SELECT string_agg(code, ' ') FROM eduai.health_problems() WHERE code LIKE '%master%';"), 'old_master_key_needed', 'health() says that it is due');
my $load = EduaiSession->new($node);
$load->send("DO \$\$ BEGIN FOR i IN 1..300 LOOP PERFORM eduai.publish_event('exercise_attempted', 'new-' || i % 150, NULL, jsonb_build_object('answer', i)); COMMIT; END LOOP; END \$\$;");
my $rotated = ask('SELECT eduai.rotate_master_key();');
cmp_ok($rotated, '>=', 203, 'all keys are wrapped anew');
is($load->answer(30), '', 'while others are made');
is(ask('SELECT eduai.rotate_master_key();'), '0', 'and nothing is left');
is(ask("SELECT count(*) FROM eduai.health_problems() WHERE code LIKE '%master%';"), '0', 'health() is content');
write_master_key($node, 'next');
$node->restart;
$session = EduaiSession->new($node);
is(ask("SELECT count(*) FROM generate_series(1, 200) i, LATERAL eduai.read_stream('learner-old-' || i) e WHERE e.data->>'answer' = i::text;"), '200',
	'without the older master key everything of before reads');
is(ask("SELECT count(*) FROM generate_series(0, 149) i, LATERAL eduai.read_stream('learner-new-' || i) e WHERE (e.data->>'answer')::int % 150 = i;"), '300',
	'and everything of meanwhile');
unlike(slurp_file($store), qr/\x01\x04test/, 'nothing in the store is wrapped by it');
write_master_key($node, 'third');
like(ask('SELECT eduai.rotate_master_key();'), qr/ERROR:  55000: .*the master key that sealed it is not in the master key file/s,
	'a rotation without the older master key says so');
write_master_key($node, 'next');

# ---- a key is destroyed ----

my $reader = EduaiSession->new($node);
is(answers('bea', $reader), 'stays', 'another session knows the key');
$node->backup('before');
my @slots = slots_of_store();
is(ask("SELECT eduai.test_destroy_key('bea');"), 't', 'it is destroyed');
my @emptied = slots_of_store();
my @changed = grep { $slots[$_]{used} != $emptied[$_]{used} } 0 .. $#slots;
is(scalar @changed, 1, 'one slot changed');
is($emptied[ $changed[0] ]{used}, 0, 'nothing of the owner or the key is left in it');
# a rotation that has read the slot before finds another number in it, whoever gets it next
cmp_ok($emptied[ $changed[0] ]{seq}, '>', $slots[ $changed[0] ]{seq}, 'its number went up');
is(answers('bea', $reader), '-', 'and known no more');
is(ask("SELECT eduai.test_destroy_key('bea');"), 'f', 'once');
is(answers('cyd', $reader), 'after', 'others keep theirs');
my $restored = PostgreSQL::Test::Cluster->new('restored');
$restored->init_from_backup($node, 'before');
$restored->append_conf('postgresql.conf', "eduai.database = ''\n");
$restored->start;
my $past = EduaiSession->new($restored);
is($past->ask("SELECT count(*) FROM eduai.event WHERE user_id = 'bea';"), '1', 'a base backup from before still has the event');
is(answers('bea', $past), '-', 'and cannot read it beside the key store of now');
is(answers('cyd', $past), 'after', 'though it reads the others');
$past->ask(publish('bea', 'again'));
like(answers('bea', $past), qr/^again,\{"\$sealed": "[^"]+"\}$/, 'a new key does not open what the old one sealed');
ask("SELECT count(eduai.publish_event('exercise_attempted', 'reuse-' || i, NULL, '{\"answer\": \"r\"}')) FROM generate_series(1, 50) i;");
like(answers('bea', $past), qr/^again,\{"\$sealed": "[^"]+"\}$/, 'nor does who has the slot now');

# ---- growth ----

is(-s $store, 4096 * 257, 'the store has its first segment');
ask("SELECT count(eduai.append_event('grow-' || i, 'exercise_attempted', '{\"answer\": \"g\"}', 'grow-' || i)) FROM generate_series(1, 1600) i;");
is(-s $store, 4096 * (1 + 256 + 512), 'and a second when the buckets of a learner are full');
is(ask("SELECT count(*) FROM generate_series(1, 1600) i, LATERAL eduai.read_stream('grow-' || i) e WHERE e.data->>'answer' = 'g';"), '1600', 'all are found');
is(answers('cyd', $reader), 'after', 'by those that had it open, too');

$restored->stop;
$node->stop;
done_testing();
