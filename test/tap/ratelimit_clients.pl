# Sixty-four clients at once on the same keys: never one call too many, in windows,
# in hierarchies and in concurrency tiers, whatever the order of the keys, and while
# an administrator changes the limits.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

use constant CLIENTS => 64;

my $node = new_node(conf => { max_connections => CLIENTS + 20, 'eduai.rate_save_interval' => '100ms' });

sub value { return $node->safe_psql('postgres', $_[0]) }

value(q{
	SELECT eduai.define_tier('slots', 5, NULL, 'concurrency');
	SELECT eduai.define_tier('live', 50, '1 hour');});

my @clients = map { EduaiSession->new($node) } 1 .. CLIENTS;

# the same statement in all of them, started together by a lock
sub together
{
	my ($statement) = @_;
	my $gate = EduaiSession->new($node);
	$gate->ask('SELECT pg_advisory_lock(7);');
	$_->send("SELECT pg_advisory_lock_shared(7); SELECT pg_advisory_unlock_shared(7); $statement") for @clients;
	wait_until(sub { value(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted}) == CLIENTS }, 30, 'all wait');
	$gate->ask('SELECT pg_advisory_unlock(7);');
	my @answers = map { my @lines = split /\n/, $_->answer(60) // 'died'; $lines[-1] } @clients;
	$gate->quit;
	return @answers;
}

sub total { my $n = 0; $n += $_ for @_; return $n }

# ---- one key of each tier ----

for (['public', 100, 20], ['authenticated', 1000, 40], ['premium', 5000, 200])
{
	my ($tier, $limit, $each) = @$_;
	my @admitted = together("SELECT count(*) FILTER (WHERE eduai.rate_ok('one', '$tier')) FROM generate_series(1, $each);");
	is(total(@admitted), $limit, "$tier: $limit of @{[CLIENTS * $each]} calls, no more and no fewer");
	cmp_ok(scalar(grep { $_ > 0 } @admitted), '>', 1, "$tier: more than one client had some");
}

# ---- three levels: all or nothing ----

# each client has a learner of its own, eight share a school, all the whole; the
# keys come in another order in each
value(q{SELECT eduai.define_tier('learner', 40, '1 hour'), eduai.define_tier('school', 150, '1 hour'), eduai.define_tier('whole', 1000, '1 hour')});
my @orders = ([ 0, 1, 2 ], [ 2, 1, 0 ], [ 1, 2, 0 ], [ 2, 0, 1 ]);
{
	my $gate = EduaiSession->new($node);
	$gate->ask('SELECT pg_advisory_lock(7);');
	for my $i (0 .. $#clients)
	{
		my @keys = ("'l$i'", "'s" . ($i % 8) . "'", "'w'");
		my @tiers = ("'learner'", "'school'", "'whole'");
		my $order = $orders[ $i % 4 ];
		my $keys = join ',', @keys[@$order];
		my $tiers = join ',', @tiers[@$order];
		$clients[$i]->send(qq{SELECT pg_advisory_lock_shared(7); SELECT pg_advisory_unlock_shared(7);
			SELECT count(*) FILTER (WHERE (eduai.rate_limit_all(ARRAY[$keys], ARRAY[$tiers])).allowed) FROM generate_series(1, 60);});
	}
	$gate->ask('SELECT pg_advisory_unlock(7);');
	my @admitted = map { my @lines = split /\n/, $_->answer(60); $lines[-1] } @clients;
	$gate->quit;
	is(total(@admitted), 1000, 'the whole is used up, and no more');
	is(scalar(grep { $_ > 40 } @admitted), 0, 'no learner had more than his own');
	my %school;
	$school{ $_ % 8 } += $admitted[$_] for 0 .. $#clients;
	is(scalar(grep { $_ > 150 } values %school), 0, 'nor a school');
	is(value(q{SELECT sum(limit_count - remaining) FROM eduai.rate_status WHERE tier = 'learner'}), 1000, 'of the learners as much was consumed');
	is(value(q{SELECT sum(limit_count - remaining) FROM eduai.rate_status WHERE tier = 'school'}), 1000, 'and of the schools: all or none');
	is(value(q{SELECT bound_by FROM eduai.rate_limit_all('{fresh,fresh_school,w}', '{learner,school,whole}')}), 'w', 'bound by the whole');
}

# ---- slots ----

{
	# what is held at once is counted by advisory locks of the holders
	my @most = together(q{
		SELECT coalesce(max(held), 0) FROM (SELECT CASE WHEN eduai.rate_ok('jobs', 'slots') THEN
			(SELECT held FROM eduai.rate_status WHERE key = 'jobs') + 0 * length(eduai.rate_release('jobs', 'slots')::text) END AS held FROM generate_series(1, 30)) x;});
	is(scalar(grep { $_ > 5 } @most), 0, 'never more slots than there are');
	is(value(q{SELECT remaining FROM eduai.rate_peek('jobs', 'slots')}), 5, 'all came back');
	my @held = together(q{SELECT count(*) FILTER (WHERE eduai.rate_ok('jobs', 'slots')) FROM generate_series(1, 3);});
	is(total(@held), 5, 'sixty-four clients hold five slots');
	# sessions end in every way
	my @holders = grep { $held[$_] > 0 } 0 .. $#clients;
	value('SELECT pg_terminate_backend(' . $clients[ $holders[0] ]->ask('SELECT pg_backend_pid();') . ')');
	for (@holders) { $clients[$_]->quit; $clients[$_] = EduaiSession->new($node) }
	wait_until(sub { value(q{SELECT remaining FROM eduai.rate_peek('jobs', 'slots')}) == 5 }, 20, 'ended sessions give back their slots');
	pass('ended sessions give back their slots');
}

# ---- limits that change while calls are made ----

{
	my @limits = (80, 20, 120, 60);
	$_->send(q{SELECT count(*) FILTER (WHERE eduai.rate_ok('moving', 'live')) FROM generate_series(1, 2000);}) for @clients;
	value("SELECT eduai.define_tier('live', $_, '1 hour')") for @limits;
	my $admitted = total(map { my @lines = split /\n/, $_->answer(60); $lines[-1] } @clients);
	cmp_ok($admitted, '<=', 120, "never more than the highest limit ($admitted)");
	cmp_ok($admitted, '>=', 50, 'and no fewer than the lowest that held');
	is($clients[0]->ask(q{SELECT limit_count FROM eduai.rate_peek('moving', 'live');}), '60', 'a session that is there has the new limit');
}

$_->quit for @clients;
$node->stop;
done_testing();
