# What was admitted outlives the server: a restart keeps all of it, a crash all
# but what came since the last save; a torn file is as none.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(conf => { 'eduai.test_mode' => 'on', 'eduai.rate_save_interval' => '200ms' });
my $file = $node->data_dir . '/pg_stat/eduai_rate.stat';

sub value { return $node->safe_psql('postgres', $_[0]) }
sub left { my ($key, $tier) = @_; return value("SELECT remaining FROM eduai.rate_peek('$key', '" . ($tier // 'public') . "')") }
sub saved_at { return value(q{SELECT eduai.health()->'ratelimit'->>'saved_at'}) // '' }

# until what was admitted before the call is saved
sub wait_for_save
{
	my $now = value(q{SELECT clock_timestamp()});
	value(q{SELECT eduai.rate_ok('save me', 'premium')});
	wait_until(sub { value(qq{SELECT coalesce((eduai.health()->'ratelimit'->>'saved_at')::timestamptz > '$now', false)}) eq 't' }, 20, 'a save');
}

# a process that is there and no zombie
sub alive
{
	my ($pid) = @_;
	open my $stat, '<', "/proc/$pid/stat" or return 0;
	return <$stat> !~ /\) [ZX] /;
}

sub crash
{
	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my @backends = split /\n/, value('SELECT pid FROM pg_stat_activity');
	$node->kill9;
	wait_until(sub { !grep { alive($_) } $postmaster, @backends }, 30, 'all processes of the server are gone');
	# a dead postmaster that init has not reaped yet passes for a running one
	eval { wait_until(sub { !-e "/proc/$postmaster" }, 5, 'the postmaster is reaped') }
	  or unlink $node->data_dir . '/postmaster.pid', $node->host . '/.s.PGSQL.' . $node->port . '.lock';
	$node->start;
}

value(q{SELECT eduai.define_tier('pace', 60, '1 hour', 'gcra', 30), eduai.define_tier('slots', 3, NULL, 'concurrency')});
value(q{SELECT eduai.rate_ok('a', cost => 70), eduai.rate_ok(repeat('long', 200), cost => 30), eduai.rate_ok('p', 'pace', 25)});
value(q{BEGIN; SELECT eduai.rate_ok('a', cost => 5); ROLLBACK});

# ---- a restart ----

my $holder = EduaiSession->new($node);
is($holder->ask(q{SELECT eduai.rate_ok('s', 'slots', 3);}), 't', 'slots are held');
$node->append_conf('postgresql.conf', "eduai.rate_save_interval = 0\n");
$node->reload;
value(q{SELECT eduai.rate_ok('late', cost => 11)});
$node->restart;
is(left('a'), 25, 'a restart keeps what was consumed, a rolled back call included');
is(left('p', 'pace'), 5, 'a pace, too');
is(value(q{SELECT remaining FROM eduai.rate_peek(repeat('long', 200))}), 70, 'and a long key');
is(left('late'), 89, 'with what came after the last timed save');
is(left('s', 'slots'), 3, 'slots are free: nobody is there who held them');
is(value(q{SELECT allowed FROM eduai.rate_limit('a', cost => 26)}), 'f', 'and it is decided so');

# the hour goes on from where it was
value(q{SELECT eduai.test_clock('59 min')});
is(left('a'), 25, 'within the hour it still counts');
value(q{SELECT eduai.test_clock('62 min')});
is(left('a'), 100, 'after the hour it does not');
value(q{SELECT eduai.test_clock('0')});
$node->restart;

# ---- a crash ----

$node->append_conf('postgresql.conf', "eduai.rate_save_interval = '200ms'\n");
$node->restart;
value(q{SELECT eduai.rate_ok('crash', cost => 40)});
wait_for_save();
is(left('crash'), 60, 'forty are admitted and saved');
$node->append_conf('postgresql.conf', "eduai.rate_save_interval = 0\n");
$node->reload;
wait_until(sub { value('SHOW eduai.rate_save_interval') eq '0' && value(q{SELECT pg_sleep(0.3) IS NULL}) }, 10, 'saves have stopped');
my $before = saved_at();
is(value(q{SELECT count(*) FILTER (WHERE eduai.rate_ok('crash')) FROM generate_series(1, 100)}), 60, 'sixty more since');
is(saved_at(), $before, 'which no save has seen');
crash();
is(left('crash'), 60, 'a killed server forgets these sixty and no more');
is(value(q{SELECT count(*) FILTER (WHERE eduai.rate_ok('crash')) FROM generate_series(1, 1000)}), 60, 'so it over-admits what was admitted since the save');

# one process killed: all start anew, from the last save
$node->append_conf('postgresql.conf', "eduai.rate_save_interval = '100ms'\n");
$node->reload;
wait_for_save();
wait_for_save();
my $victim = EduaiSession->new($node);
my $pid = $victim->ask('SELECT pg_backend_pid();');
kill 'KILL', $pid;

wait_until(sub { (try_query($node, q{SELECT remaining FROM eduai.rate_peek('crash')}) // '') eq '0' }, 20, 'the counters are back');
pass('after the crash of a process the counters are those of the last save');

# ---- files ----

$node->stop;
ok(-s $file, 'the file is there');
ok(!-e "$file.tmp", 'and no temporary one');
my $bytes = slurp_file($file);
for my $kind ('cut short', 'a byte changed')
{
	my $bad = $bytes;
	substr($bad, -20) = '' if $kind eq 'cut short';
	substr($bad, length($bad) / 2, 1) ^= "\x10" if $kind eq 'a byte changed';
	open my $out, '>:raw', $file or die $!;
	print $out $bad;
	close $out;
	my $from = -s $node->logfile;
	$node->start;
	is(left('crash'), 100, "$kind: as after a first start");
	like(substr(slurp_file($node->logfile), $from), qr/ignoring file "pg_stat\/eduai_rate\.stat"/, "$kind: the log says so");
	$node->stop;
}
open my $out, '>:raw', $file or die $!;
print $out $bytes;
close $out;
# fewer shards than there were
$node->append_conf('postgresql.conf', "eduai.rate_keys = 600\n");
$node->start;
is(left('crash'), 0, 'a table of another size has what was saved');

# a file that cannot be written: it is said, and tried again
mkdir "$file.tmp" or die $!;
$node->append_conf('postgresql.conf', "eduai.rate_save_interval = '100ms'\n");
$node->reload;
value(q{SELECT eduai.rate_ok('unsaved')});
wait_until(sub { value(q{SELECT count(*) FROM eduai.health_problems() WHERE code = 'rate_save_fails'}) == 1 }, 20, 'health() says that saves fail');
rmdir "$file.tmp" or die $!;
wait_until(sub { value(q{SELECT count(*) FROM eduai.health_problems() WHERE code = 'rate_save_fails'}) == 0 }, 20, 'and that they work again');
pass('a save that fails is said and tried again');

$node->stop;

# ---- without preload ----

my $bare = new_node(name => 'bare', conf => { shared_preload_libraries => '' });
my $session = EduaiSession->new($bare);
for my $call (q{rate_limit('k')}, q{rate_ok('k')}, q{require_rate('k')}, q{rate_limit_all('{k}', '{public}')}, q{rate_peek('k')},
	q{rate_refund('k')}, q{rate_reset('k')}, q{rate_release('k', 'public')}, q{rate_report('public', true)})
{
	like($session->ask("SELECT eduai.$call;"), qr/ERROR:  UE011: .*\n.*HINT:  .*shared_preload_libraries/s, "$call raises UE011 without preload");
}
is($session->ask(q{SELECT eduai.define_tier('x', 1, '1 hour') IS NULL, count(*) FROM eduai.rate_tiers;}) =~ /ERROR/ ? 1 : 0, 0, 'tiers can be defined');
is($session->ask(q{SELECT count(*) FROM eduai.rate_status;}), '0', 'and the views are there');
$session->quit;
$bare->stop;
done_testing();
