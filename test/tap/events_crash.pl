# The log after kill -9, of a backend, of the projector, of the whole server: at
# named points inside commit, and at random moments under load. Every event that
# was acknowledged is there, once, where a reader has seen it; no position is used
# twice; and nothing that was in flight holds up the feed.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $seed = test_seed();
my $node = new_node(fsync => 1, conf => { 'eduai.test_mode' => 'on', autovacuum => 'off' });

sub value { return $node->safe_psql('postgres', $_[0]) }

my $count = 0;
sub next_id { return sprintf '00000000-0000-4000-8000-%012d', ++$count }

# What must be there: event id => 1; what must not be; and what a reader has read.
my (%acknowledged, %refused, @read);

sub append_sql
{
	my ($stream, $id) = @_;
	return qq{SELECT 'ack ' || event_id FROM eduai.append_event('$stream', 't', '{}', event_id => '$id');};
}

sub append
{
	my ($stream) = @_;
	my $id = next_id();
	my $answer = value(append_sql($stream, $id));
	is($answer, "ack $id", "an append to $stream") unless $answer eq "ack $id";
	$acknowledged{$id} = 1;
	return $id;
}

sub feed { return [ split /\n/, value(q{SELECT "position" || ' ' || event_id || ' ' || stream || ' ' || version FROM eduai.read_all(0, 10000)}) ] }

# The reader looks at the whole feed; what it has seen once stays as it was.
sub read_feed
{
	@read = @{ feed() };
	return;
}

# Waits for a server that has crashed, or starts it.
sub back
{
	my ($start) = @_;
	$node->start if $start;
	wait_until(sub { defined try_query($node, 'SELECT 1') }, 60, 'the server is back');
	return;
}

sub check
{
	my ($what) = @_;
	my $before = scalar @read;
	my $now = feed();
	is(join("\n", @{$now}[ 0 .. $before - 1 ]), join("\n", @read), "$what: what was read before is there as it was, and nothing between");
	my (%times, %positions, %version);
	my ($last, $inverted) = (0, 0);
	for my $row (@$now)
	{
		my ($position, $id, $stream, $version) = split / /, $row;
		$times{$id}++;
		$positions{$position}++;
		$inverted++ if $position <= $last || $version != ++$version{$stream};
		$last = $position;
	}
	is(scalar(grep { !$times{$_} } keys %acknowledged), 0, "$what: nothing that was acknowledged is lost");
	is(scalar(grep { $times{$_} } keys %refused), 0, "$what: nothing that did not commit is there");
	is(scalar(grep { $_ > 1 } values %times, values %positions), 0, "$what: each event once, each position once");
	is($inverted, 0, "$what: each stream's versions in order, without a gap");
	is(join(' ', map { value("SELECT eduai.stream_version('$_')") } sort keys %version), join(' ', map { $version{$_} } sort keys %version), "$what: the streams agree");

	# Nothing in flight: the next event can be read at once, beyond all others.
	my $id = append('after');
	my ($row) = grep { / $id / } @{ feed() };
	ok(defined $row, "$what: the next event is in the feed at once");
	cmp_ok((split / /, $row // '0')[0], '>', $last, "$what: beyond all positions");
	read_feed();
	return;
}

# ---- at named points ----

# Three transactions at the point, and one of them, or everybody, is killed.
# point; whether their events must be in the log
my @points = (
	[ 'events-drawn', 0 ],       # positions are drawn, nothing is written
	[ 'events-ordered', 0 ],     # their order is written
	[ 'commit-visible', 1 ]);    # committed, still in flight for the readers

append("s-$_") for 0 .. 2;
read_feed();
for my $what (qw(backend server))
{
	for my $case (@points)
	{
		my ($point, $there) = @$case;
		my @sessions = map { EduaiSession->new($node) } 0 .. 2;
		my @pids = map { $_->backend_pid } @sessions;
		my @ids = map { next_id() } @sessions;
		value(qq{SELECT eduai.test_pause('$point', true)});
		for my $n (0 .. 2)
		{
			# With a savepoint that is kept and one that is not.
			$sessions[$n]->send("BEGIN; SAVEPOINT a; " . append_sql("s-$n", $ids[$n]) .
				" RELEASE a; SAVEPOINT b; SELECT FROM eduai.append_event('s-$n', 'no'); ROLLBACK TO b; COMMIT;");
		}
		wait_until(sub { value(qq{SELECT eduai.test_paused('$point')}) eq '3' }, 30, "three are at $point");
		pass("$what at $point: three transactions are in flight");
		is(join("\n", @{ feed() }), join("\n", @read), "$what at $point: the feed goes up to them");
		$there ? $acknowledged{$_} = 1 : $refused{$_} = 1 for @ids;
		kill_and_wait($what, $pids[1], @sessions);
		check("$what at $point");
	}
}

sub kill_and_wait
{
	my ($what, $pid, @sessions) = @_;
	if ($what eq 'backend')
	{
		kill 'KILL', $pid;
		$_->drain for @sessions;
		back(0);
	}
	else
	{
		kill_server($node);
		back(1);
	}
	$_->quit for @sessions;
	return;
}

# The sequence is moved ahead and not flushed. More events than a step has.
for my $what (qw(backend server))
{
	my $session = EduaiSession->new($node);
	my $pid = $session->backend_pid;
	value(q{SELECT eduai.test_pause('events-reserved', true)});
	$session->send(q{SELECT eduai.append_batch(array_agg('bulk'::text), array_agg('t'::text), array_agg('{}'::jsonb)) FROM generate_series(1, 70000) i;});
	wait_until(sub { value(q{SELECT eduai.test_paused('events-reserved')}) eq '1' }, 30, 'a commit moves the sequence ahead');
	pass("$what at events-reserved: it is in flight");
	is(join("\n", @{ feed() }), join("\n", @read), "$what at events-reserved: the feed is read meanwhile");
	kill_and_wait($what, $pid, $session);
	is(value(q{SELECT eduai.stream_version('bulk')}), '0', "$what at events-reserved: its events are not there");
	check("$what at events-reserved");
}

# ---- the projector ----

# It writes the mark once it has not done so for a while, as after its start.
value(q{SELECT eduai.stop_workers(); SELECT eduai.test_pause('events-mark-written', true)});
append('s-1');
value('SELECT eduai.start_workers()');
wait_until(sub { value(q{SELECT eduai.test_paused('events-mark-written')}) eq '1' }, 20, 'the projector writes the mark');
my $session = EduaiSession->new($node);
my $id = next_id();
value(q{SELECT eduai.test_pause('events-drawn', true)});
$session->send(append_sql('s-1', $id));
$refused{$id} = 1;
wait_until(sub { value(q{SELECT eduai.test_paused('events-drawn')}) eq '1' }, 20, 'an append has drawn its position');
my $projector = value(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'eduai projector'});
like($projector, qr/^\d+$/, 'the projector is at work');
kill 'KILL', $projector;
$session->answer(60);
back(0);
$session->quit;
check('the projector');
wait_until(sub { value(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'eduai projector'}) eq '1' }, 20, 'another projector runs');
wait_until(sub { value(q{SELECT mark >= (SELECT max("position") FROM eduai.read_all(0, 10000)) FROM eduai.event_mark}) eq 't' }, 20, 'and stores the mark');
pass('another projector stores the mark');

# ---- at random moments, under load ----

for my $round (1 .. 6)
{
	my @sessions = map { EduaiSession->new($node) } 1 .. 4;
	my @pids = map { $_->backend_pid } @sessions;
	my $sent = 0;
	my $send_more = sub {
		for my $session (@sessions)
		{
			$session->send(append_sql('load-' . int rand 3, next_id())) for 1 .. 150;
		}
		$sent += 150;
	};
	$send_more->();
	my $enough = 1 + int rand 40;
	my $acknowledgements = sub { my ($s) = @_; $s->answered; return scalar(() = $s->{buffer} =~ /^ack /mg) };
	wait_until(sub { $acknowledgements->($sessions[0]) >= $enough }, 30, "$enough are acknowledged");
	# on a busy machine the test may look when all is done already
	$send_more->() until grep { $acknowledgements->($_) < $sent - 50 } @sessions;
	if ($round % 2) { kill 'KILL', $pids[ int rand 4 ] }
	else { kill_server($node) }
	my $cut_off = 0;
	for my $s (@sessions)
	{
		my @told = $s->drain =~ /^ack (\S+)$/mg;
		$acknowledged{$_} = 1 for @told;
		$cut_off++ if @told < $sent;
		$s->quit;
	}
	back($round % 2 == 0);
	cmp_ok($cut_off, '>', 0, "round $round: something was in flight");
	check("round $round, seed $seed");
}

$node->stop;
done_testing();
