# Streamed output: readers get the text as it comes, in order and whole, at once
# when it comes and when the task ends, whatever else the buffer has to hold.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

# No database is served, so that nothing but the test touches its tasks.
my $node = new_node(
	conf => {
		'eduai.database' => 'nowhere', 'eduai.test_mode' => 'on', 'eduai.output_buffer' => '64kB',
		'eduai.queue_max_size' => 0, 'eduai.queue_fresh' => 0, max_connections => 100 });
my $writer = EduaiSession->new($node);

sub value { return $node->safe_psql('postgres', $_[0]) }

# Tasks whose first attempt runs, as after a worker's claim.
sub running
{
	my ($n) = @_;
	my @tasks = split /\n/, value(qq{
		SELECT unnest(eduai.enqueue_batch('custom', array_fill('{}'::jsonb, ARRAY[$n])));
		UPDATE eduai.task_live SET state = 'running', attempt = 1, lane = NULL, ready_key = NULL WHERE state = 'ready'});
	return $n == 1 ? $tasks[0] : @tasks;
}

# The rows of a completed task, and what its commit tells.
sub completed
{
	my ($task, $text) = @_;
	return qq{BEGIN; SELECT eduai.cancel_task($task);
		UPDATE eduai.task_end SET state = 'completed', result = jsonb_build_object('text', $text) WHERE task_id = $task; COMMIT;};
}

sub complete { value(completed(@_)) }

sub append
{
	my ($task, $text) = @_;
	my $answer = $writer->ask("SELECT eduai.append_output($task, 1, '$text');");
	is($answer, '', "given: $text") if $answer ne '';
}

# A reader's next rows, and waiting until it sleeps.
sub read_on { $_[0]{session}->send("SELECT seq, delta, done FROM eduai.task_output($_[0]{task}, $_[1], '10 min');") }

sub asleep
{
	my ($reader) = @_;
	wait_until(sub { value("SELECT count(*) FROM pg_stat_activity WHERE pid = $reader->{pid} AND wait_event_type = 'Extension'") }, 20, 'the reader sleeps');
}

sub reader
{
	my ($task) = @_;
	my $session = EduaiSession->new($node);
	return { session => $session, pid => $session->backend_pid, task => $task };
}

# Reads a stream until it is done: its text, as far as it was there, and whether
# each number was one more than the one before.
value(q{
	CREATE FUNCTION read_all(task bigint, OUT text text, OUT gaps int, OUT calls int, after int DEFAULT 0) LANGUAGE plpgsql AS $$
	DECLARE
		r record;
		over boolean := false;
	BEGIN
		text := ''; gaps := 0; calls := 0;
		WHILE NOT over LOOP
			calls := calls + 1;
			FOR r IN SELECT * FROM eduai.task_output(task, after, '60 s') LOOP
				text := text || coalesce(r.delta, '');
				IF r.seq <> after + 1 AND r.delta IS NOT NULL THEN gaps := gaps + 1; END IF;
				after := r.seq;
				over := r.done;
			END LOOP;
			IF calls > 100000 THEN RAISE 'no end'; END IF;
		END LOOP;
	END $$});

# ---- as it comes

my $task = running(1);
my $reader = reader($task);
read_on($reader, 0);
asleep($reader);
append($task, 'Once');
is($reader->{session}->answer(20), '1|Once|f', 'a reader that came first wakes with the first text');
read_on($reader, 1);
asleep($reader);
append($task, ' upon');
is($reader->{session}->answer(20), '2| upon|f', 'and with the next');
append($task, ' a');
append($task, ' time');
read_on($reader, 2);
is($reader->{session}->answer(20), "3| a|f\n4| time|f", 'what came meanwhile it gets together');

my $late = reader($task);
read_on($late, 0);
is($late->{session}->answer(20), "1|Once|f\n2| upon|f\n3| a|f\n4| time|f", 'a reader that starts late gets all of it');

read_on($reader, 4);
asleep($reader);
value("BEGIN; SELECT eduai.cancel_task($task); ROLLBACK;");
value("SELECT eduai.enqueue('custom', '{}')");
ok(!$reader->{session}->answered, 'an end that rolls back wakes nobody');
complete($task, q{'Once upon a time'});
is($reader->{session}->answer(20), '4||t', 'the end does');

my $silent = reader(running(1));
read_on($silent, 0);
asleep($silent);
complete($silent->{task}, q{'The end'});
is($silent->{session}->answer(20), '1|The end|t', 'and gives who has nothing the text of the result');

# ---- cancelling a reader

$task = $reader->{task} = running(1);
read_on($reader, 0);
asleep($reader);
value("SELECT pg_cancel_backend($reader->{pid})");
like($reader->{session}->answer(20), qr/ERROR:  57014: /, 'a reader can be cancelled');
append($task, 'still');
read_on($reader, 0);
is($reader->{session}->answer(20), '1|still|f', 'and read again');
complete($task, q{'still'});

# ---- a full buffer: 64 chunks of 1 kB

my ($long, $other, $early) = running(3);
append($early, 'early');
complete($early, q{'early'});
append($other, 'other');
$reader->{task} = $long;
my $last = 0;
my $text = '';
for my $part (1 .. 200)
{
	my $piece = chr(ord('a') + $part % 26) x 1000;
	append($long, $piece);
	read_on($reader, $last);
	my $got = $reader->{session}->answer(20);
	last unless $got =~ /^(\d+)\|(\w+)\|f$/ && $1 == $last + 1 && $2 eq $piece;
	($last, $text) = ($1, $text . $2);
}
is(length $text, 200_000, 'a reader that follows a stream longer than the buffer misses nothing');
is(value("SELECT min(seq) > 130, max(seq), count(*) = max(seq) - min(seq) + 1 FROM eduai.task_output($long)"), 't|200|t', 'a late one misses the beginning, and sees it');
is(value("SELECT progress IS NULL FROM eduai.get_task($long)"), 't', '... and is not shown it as all that there is');
is(value("SELECT delta FROM eduai.task_output($other)"), 'other', 'a short stream beside it keeps its text');
is(value("SELECT * FROM eduai.task_output($early)"), '1|early|t|1', 'one that had ended gave room first: its result is there');
is(value("SELECT * FROM eduai.task_output($early, 1)"), '2||t|1', 'but not for one who may have read it');
complete($long, qq{'$text'});
is(value("SELECT seq, delta = '$text', done FROM eduai.task_output($long)"), '200|t|t', 'without its beginning, a finished stream gives the result instead');
is(value("SELECT seq > 130, delta IS NOT NULL, done FROM eduai.task_output($long, 2) LIMIT 1"), 't|t|f', 'one who has read some of it gets the rest there is');
is(value("SELECT * FROM eduai.task_output($long, 200)"), '200||t|1', 'and who had all, the end');

# more streams than places: the first ones, which go on, keep theirs
my @many = running(40);
append($_, 'mine') for @many;
my $kept = value('SELECT count(*) FROM unnest(ARRAY[' . join(',', @many) . "]) u, eduai.task_output(u, 0, '0 s')");
is($kept, 15, 'a buffer of 64 kB has 16 places, one of them taken before');
complete($_, q{'mine'}) for @many, $other;
is(value('SELECT count(*) FROM unnest(ARRAY[' . join(',', @many) . "]) u, eduai.task_output(u) o WHERE o.delta = 'mine' AND o.done"), 40, 'all of them have their result');

# ---- a restart forgets

$task = running(1);
append($task, 'before');
$_->{session}->quit for $reader, $late, $silent;
$writer->quit;
$node->append_conf('postgresql.conf', "eduai.output_buffer = '20MB'\n");
$node->restart;
$writer = EduaiSession->new($node);
is(value("SELECT count(*) FROM eduai.task_output($task, 0, '0 s')"), 0, 'a restart forgets the text');
append($task, 'after');
is(value("SELECT seq, delta, done FROM eduai.task_output($task)"), '1|after|f', 'and the stream goes on');
complete($task, q{'before after'});

# ---- many readers of one stream

$task = running(1);
my @readers = map { EduaiSession->new($node) } 1 .. 50;
$_->send("SELECT md5(text), gaps FROM read_all($task);") for @readers;
$writer->ask("SELECT count(*) FROM (SELECT eduai.append_output($task, 1, 'part ' || i || ' ') FROM generate_series(1, 500) i OFFSET 0) s;");
my $whole = value(q{SELECT md5(string_agg('part ' || i || ' ', '' ORDER BY i)) FROM generate_series(1, 500) i});
complete($task, q{'unused'});
is(scalar(grep { $_->answer(60) eq "$whole|0" } @readers), 50, '50 readers of one stream get all of it in order');
$_->quit for @readers;

# ---- many streams

my @tasks = running(300);
my $ids = join ',', @tasks;
$writer->ask(qq{SELECT count(*) FROM (SELECT eduai.append_output(t, 1, t || ':' || i || ' ') FROM generate_series(1, 20) i, unnest(ARRAY[$ids]) t OFFSET 0) s;});
is(value(qq{SELECT count(*) FILTER (WHERE n = 20 AND text = (SELECT string_agg(t || ':' || i || ' ', '' ORDER BY i) FROM generate_series(1, 20) i)), count(*)
	FROM (SELECT t, string_agg(delta, '' ORDER BY seq) AS text, count(*) AS n FROM unnest(ARRAY[$ids]) t, eduai.task_output(t, 0, '0 s') GROUP BY t) s}),
	'300|300', '300 streams at once are kept apart');
complete($_, q{'x'}) for @tasks;

# 256 streams of 64 kB each have room in a buffer that has it
@tasks = running(256);
$ids = join ',', @tasks;
$writer->ask(qq{SELECT count(*) FROM (SELECT eduai.append_output(t, 1, repeat(chr(97 + t::int % 26), 500)) FROM generate_series(1, 128) i, unnest(ARRAY[$ids]) t OFFSET 0) s;}, 120);
is(value(qq{SELECT count(*) FILTER (WHERE text = repeat(chr(97 + t::int % 26), 64000)), count(*)
	FROM (SELECT t, string_agg(delta, '' ORDER BY seq) AS text FROM unnest(ARRAY[$ids]) t, eduai.task_output(t, 0, '0 s') GROUP BY t) s}),
	'256|256', '256 streams of 64 kB are whole');

# ---- a new extension begins with new numbers, and with nothing of the old one

value("DROP EXTENSION eduai; CREATE EXTENSION eduai; SELECT setval('eduai.task_id_seq', $tasks[0] - 1)");
$task = running(1);
is($task, $tasks[0], 'a new extension uses the ids of an earlier one again');
is(value("SELECT count(*) FROM eduai.task_output($task, 0, '0 s')"), 0, 'and has nothing of its text');

$writer->quit;
$node->stop('fast');
done_testing();
