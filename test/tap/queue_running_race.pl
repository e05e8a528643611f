# Eight sessions want the slots of a pool whose limit changes, commit, roll back,
# and are killed: there are never more running than the limit allows, and no slot
# is lost.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

use constant SESSIONS => 8;
use constant KILLS => 12;

my $seed = test_seed();
my $node = new_node(conf => { 'eduai.test_mode' => 'on', 'eduai.database' => '' });
$node->safe_psql('postgres', q{SELECT eduai.configure_pool('p', '{}', 7, NULL, 0)});

# Starts, ends and regrets without a pause until there is a row in "stop"; says how
# many it started, and the most that it saw running.
$node->safe_psql('postgres', q{
CREATE TABLE stop ();
CREATE PROCEDURE claimer(me int) LANGUAGE plpgsql AS $$
DECLARE
	n int := 0;
	task bigint;
	started int := 0;
	most int := 0;
	seen int;
	key text;
BEGIN
	WHILE NOT EXISTS (SELECT FROM stop) LOOP
		n := n + 1;
		task := me * 1000 + n % 1000;
		key := CASE WHEN random() < 0.3 THEN ', "concurrency_key": "' || (random() * 3)::int || '"' ELSE '' END;
		IF eduai.test_attempt('start', task, 1, ('{"pool": "p"' || key || '}')::jsonb) = 'ok' THEN
			started := started + 1;
			SELECT running INTO seen FROM eduai.pool_stands() WHERE name = 'p';
			most := greatest(most, seen);
			CASE (random() * 4)::int
				WHEN 0 THEN ROLLBACK; CONTINUE;
				WHEN 1 THEN PERFORM eduai.test_attempt('take back', task); CONTINUE;
				WHEN 2 THEN
					BEGIN
						PERFORM eduai.test_attempt('end', task);
						RAISE 'no';
					EXCEPTION WHEN raise_exception THEN
						NULL;
					END;
				ELSE NULL;
			END CASE;
			COMMIT;
			PERFORM eduai.test_attempt('end', task);
			IF random() < 0.2 THEN
				ROLLBACK;
				PERFORM eduai.test_attempt('end', task);
			END IF;
		END IF;
		COMMIT;
	END LOOP;
	RAISE NOTICE 'started % most %', started, most;
END $$;
});

my %sessions;
my $number = 0;
my @killed;

sub launch
{
	my $s = EduaiSession->new($node);
	my $pid = $s->ask('SELECT pg_backend_pid();');
	$s->ask(sprintf 'SELECT setseed(%f);', rand);
	$s->send('CALL claimer(' . ++$number . ');');
	$sessions{$pid} = { session => $s, number => $number };
	return;
}
launch() for 1 .. SESSIONS;

# The limit goes down and up again, rolled back now and then, but never above 7.
my $admin = EduaiSession->new($node);
for my $round (1 .. KILLS)
{
	for (1 .. 8)
	{
		my $limit = 3 + int rand 5;
		$admin->ask("BEGIN; SELECT eduai.configure_pool('p', '{}', $limit, NULL, 0);");
		$admin->ask(rand() < 0.3 ? 'ROLLBACK;' : 'COMMIT;');
	}
	my @pids = sort keys %sessions;
	my $pid = $pids[ rand @pids ];
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 20000)");
	push @killed, $sessions{$pid}{number};
	delete $sessions{$pid};
	launch();
}

# What a killed one had committed and not ended is ended for it, as when its lease lapses.
$node->safe_psql('postgres', 'ALTER TABLE stop ADD a int; INSERT INTO stop VALUES (1)');
my ($started, $most) = (0, 0);
for my $s (map { $_->{session} } values %sessions)
{
	my ($n, $m) = $s->answer(60) =~ /started (\d+) most (\d+)/ or die 'a claimer failed';
	$started += $n;
	$most = $m if $m > $most;
	$s->quit;
}
cmp_ok($started, '>', 100, 'there were starts');
is($most, 7, 'all slots were taken, and never one more');
$node->safe_psql('postgres', sprintf(
	q{SELECT count(eduai.test_attempt('end', n * 1000 + t)) FROM unnest('{%s}'::int[]) n, generate_series(0, 999) t},
	join ',', @killed));
$admin->ask(q{SELECT eduai.configure_pool('p', '{}', 7, NULL, 0);});
is($admin->ask(q{SELECT running, size FROM eduai.pool_stands() WHERE name = 'p';}), '0|7', 'no slot is lost');
is($admin->ask(q{SELECT eduai.test_attempt('key busy', 0, 1, jsonb_build_object('concurrency_key', k::text)) FROM generate_series(0, 3) k GROUP BY 1;}), 'no', 'no key either');
$admin->quit;

done_testing();
