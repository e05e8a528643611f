# Finished tasks are forgotten by the dispatcher when their time is over: not
# earlier, not what is kept for a reason, not what somebody holds, and with
# nobody waiting for it; the space they had is used again.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node(conf => { 'eduai.test_mode' => 'on', 'eduai.queue_max_size' => 0, autovacuum => 'off' });

sub value { return $node->safe_psql('postgres', $_[0]) }
sub known { return value("SELECT count(*) FROM eduai.get_tasks(ARRAY[" . join(',', @_) . "]::bigint[])") }
sub set_days { return value("SELECT eduai.test_clock('$_[0] days')") }

# A pass begins at once when the settings are read again.
sub forgotten
{
	my ($what, @tasks) = @_;
	$node->reload;
	return wait_until(sub { known(@tasks) eq '0' }, 30, $what);
}

sub cancelled
{
	my ($more) = @_;
	my $id = value(q{SELECT eduai.enqueue('custom', '{}'} . ($more // '') . ')');
	value("SELECT eduai.cancel_task($id)");
	return $id;
}

# ---- each state has its time ----

my $living = value(q{SELECT eduai.enqueue('custom', '{}')});
my $cancelled = cancelled();
my $parent = cancelled();
my $dead = value("SELECT eduai.enqueue('custom', '{}', depends_on => ARRAY[$cancelled]::bigint[])");
my $child = value(qq{SELECT eduai.enqueue('custom', '{}', depends_on => ARRAY[$parent]::bigint[], metadata => '{"on_parent_failure": "wait"}')});
set_days(6);
my $young = cancelled();
set_days(8);
forgotten('a cancelled task of 8 days', $cancelled);
is(known($young, $dead, $parent, $child, $living), 5, 'a young one, a dead one, a parent of one that waits and living ones are kept');
set_days(31);
my $new = cancelled();
forgotten('a dead task of 31 days', $dead, $young);
is(known($new, $parent, $child, $living), 4, 'what lives is kept for ever, and a parent as long');
value("SELECT eduai.cancel_task($child)");
set_days(40);
forgotten('a parent and its child', $parent, $child, $new);
is(value('SELECT (SELECT count(*) FROM eduai.task_request), (SELECT count(*) FROM eduai.task_end), (SELECT count(*) FROM eduai.task_dependency)'), '1|0|0', 'nothing is left of them');

# ---- for ever ----

value(q{ALTER SYSTEM SET eduai.task_retention = -1});
my $kept = cancelled();
my $failed = value("SELECT eduai.enqueue('custom', '{}', depends_on => ARRAY[$kept]::bigint[])");
set_days(100);
forgotten('dead ones, where others are kept for ever', $failed);
is(known($kept), 1, 'and they are');
value(q{ALTER SYSTEM SET eduai.task_retention = 0});

# ---- what somebody holds ----

forgotten('what may go', $kept);
value(q{ALTER SYSTEM SET eduai.task_retention = '1d'});
$node->reload;
wait_until(sub { value('SHOW eduai.task_retention') eq '1d' }, 20, 'another time');
my @tasks = map { cancelled() } 1 .. 3;
my @holders = map { EduaiSession->new($node) } 1 .. 2;
is($holders[0]->ask("BEGIN; SELECT task_id FROM eduai.task_end WHERE task_id = $tasks[0] FOR UPDATE;"), $tasks[0], 'one task is held');
is($holders[1]->ask("BEGIN; SELECT eduai.retry_task($tasks[1]);"), 't', 'another is being taken back');
set_days(102);
forgotten('the rest', $tasks[2]);
is(known(@tasks[0, 1]), 2, 'those that are held are kept');
$holders[0]->ask('COMMIT;');
$holders[1]->ask('COMMIT;');
forgotten('later, the one that was held', $tasks[0]);
is(value("SELECT state FROM eduai.get_task($tasks[1])"), 'ready', 'and the other lives again');
value("SELECT eduai.cancel_task($tasks[1])");

# ---- a table that somebody changes ----

my $changer = EduaiSession->new($node);
$changer->ask('BEGIN; LOCK TABLE eduai.task_end IN ACCESS EXCLUSIVE MODE;');
set_days(104);
$node->reload;
my $ready = value(q{SELECT eduai.enqueue('custom', '{}', run_at => now() + interval '104 days 1 s')});
wait_until(sub { value("SELECT state FROM eduai.task_live WHERE task_id = $ready") eq 'ready' }, 20, 'the dispatcher goes on');
pass('while the table is locked, the dispatcher goes on');
$changer->ask('ROLLBACK;');
forgotten('what had to wait', $tasks[1]);

# ---- enqueuers meanwhile, and the space ----

# A cycle: 5,000 tasks end, grow old and are forgotten, while somebody enqueues.
my $longest = 0;
my $days = 200;

sub cycle
{
	value(q{SELECT count(eduai.cancel_task(id)) FROM unnest(eduai.enqueue_batch('custom', array_fill('{"of": "many"}'::jsonb, ARRAY[5000]))) id});
	$days += 2;
	set_days($days);
	$node->reload;
	my $session = EduaiSession->new($node);
	wait_until(
		sub {
			my $start = time;
			my $id = $session->ask(q{SELECT eduai.enqueue('custom', '{}');});
			$longest = time - $start if time - $start > $longest;
			$session->ask("SELECT eduai.cancel_task($id);");
			return $session->ask(q{SELECT count(*) FROM eduai.task_end WHERE finished_at < now() + interval '} . ($days - 1) . q{ days';}) eq '0';
		},
		60, 'a cycle is forgotten');
	$session->quit;
	value('VACUUM eduai.task_request, eduai.task_end, eduai.task_live');
	return value(q{SELECT sum(pg_total_relation_size(t)) FROM unnest('{eduai.task_request,eduai.task_end,eduai.task_live}'::regclass[]) t});
}

my @sizes = map { cycle() } 1 .. 8;
cmp_ok($longest, '<', 5, 'no enqueuer waited long');
cmp_ok($sizes[-1], '<', 1.2 * $sizes[2], 'after eight cycles the tables are as large as after three');
note("sizes: @sizes");
unlike(slurp_file($node->logfile), qr/could not forget finished tasks/, 'and no step failed');

$_->quit for @holders, $changer;
$node->stop;
done_testing();
