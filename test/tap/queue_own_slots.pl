# A transaction may fill the slots of the attempts that it ends: a full pool goes
# on in one commit. For others they are taken until then, and a rollback, of a
# savepoint too, gives back what was there before.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.queue_max_size' => 0 });

sub value { return $node->safe_psql('postgres', $_[0]) }

# The statements' own output, without the words that end a command.
sub say_in
{
	my ($session, $sql) = @_;
	return join ',', grep { /\S/ && !/^(?:BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE)$/ } split /\n/, $session->ask($sql, 30);
}

my $claim = q{SELECT task_id FROM eduai.claim_tasks('w', '{own}', 9, lease => '1 h');};
sub complete { return join '', map { "SELECT count(eduai.complete_task($_, 1));" } @_ }
sub running { return value(q{SELECT running FROM eduai.pool_status WHERE name = 'own'}) }

value(q{SELECT eduai.configure_pool('own', '{}', 2, reserved_critical => 0); SELECT eduai.define_task_type('own', 'application', 'own')});
my @task = split /\n/, value(q{SELECT eduai.enqueue('own', '{}') FROM generate_series(1, 9)});
my ($mine, $other) = map { EduaiSession->new($node) } 1, 2;

is(say_in($mine, $claim), "$task[0],$task[1]", 'two fit');
is(say_in($mine, 'BEGIN;' . complete($task[0]) . $claim), "1,$task[2]", 'the slot of what it ends is its own at once');
is(say_in($mine, $claim), '', 'and only that one');
is(say_in($other, $claim), '', 'nobody else has it');
is(value(q{SELECT count(*) FROM eduai.task_live WHERE state = 'running'}), 2, 'and nobody sees more than two');
say_in($mine, 'COMMIT;');
is(running(), 2, 'two run after the commit');
is(say_in($other, $claim), '', 'the pool is full');

say_in($mine, 'BEGIN;' . complete($task[1], $task[2]) . $claim . 'ROLLBACK;');
is(running(), 2, 'a rollback brings back those that ran');
is(say_in($other, $claim), '', 'and no slot');

is(say_in($mine, 'BEGIN; SAVEPOINT s;' . complete($task[1]) . "ROLLBACK TO s; $claim"), '1', 'a savepoint that is undone leaves nothing to fill');
is(say_in($mine, 'SAVEPOINT s;' . complete($task[1]) . "RELEASE s; $claim"), "1,$task[3]", 'one that is kept does');
say_in($mine, 'COMMIT;');
is(running(), 2, 'and the count is right');

is(say_in($mine, 'BEGIN;' . complete($task[2]) . "SAVEPOINT s; $claim ROLLBACK TO s; $claim"), "1,$task[4],$task[4]",
	'a claim that is undone gives the slot back to the same transaction');
say_in($mine, 'COMMIT;');
is(say_in($mine, 'BEGIN;' . complete($task[3], $task[4]) . 'COMMIT;'), '1,1', 'all end');
is(running(), 0, 'no slot is lost');
is(say_in($other, $claim), "$task[5],$task[6]", 'and none too many');

$_->quit for $mine, $other;
done_testing();
