# Sensitive tasks on the gateway's own path: the provider gets clear text, what is
# stored is sealed, each role sees what it may, handlers and dependants get results
# in clear, a retry seals again; and an answer that was paid for waits for a key
# store that cannot be used.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $node = new_node(conf => { 'eduai.key_store' => "$dir/keys", 'eduai.sweep_interval' => '1s', 'eduai.test_mode' => 'on' });
my $sim = start_simulator();
sim_default($sim, undef, 'echo');
sim_default($sim, 'sim-again', 'fail_first=1;echo');
sim_default($sim, 'sim-late', 'latency=1500;echo');
add_fleet($node, $sim);
add_fleet($node, $sim, provider => 'ears', model => 'sim-speech', task_types => '{transcription}');
add_fleet($node, $sim, provider => 'again', model => 'sim-again');
add_fleet($node, $sim, provider => 'late', model => 'sim-late');

sub value { return $node->safe_psql('postgres', $_[0]) }

sub enqueue
{
	my ($prompt, $sensitive, $more, $model) = @_;
	$model //= 'sim-chat';
	return value(qq{SELECT eduai.enqueue('chat', '{"model": "$model", "prompt": "$prompt"}', user_id => 'ann', metadata => '{"sensitive": $sensitive}'} . ($more ? ", $more" : '') . ')');
}

sub completed { return wait_for_task($node, $_[0], 'completed', 20) }
sub text_for { return value("SET ROLE $_[1]; SELECT coalesce(result::text, '-') FROM eduai.get_task($_[0])") }

# What the table rows of a task say, all of them: neither its words nor a result in clear.
sub at_rest
{
	return value(qq{SELECT string_agg(t::text, ' ') FROM (
		SELECT r::text FROM eduai.task_request r WHERE task_id = $_[0] UNION ALL SELECT r::text FROM eduai.task_end r WHERE task_id = $_[0]) v (t)});
}

value(q{
	SELECT eduai.create_key_store();
	CREATE ROLE app; GRANT eduai_app TO app;
	CREATE ROLE worker; GRANT eduai_worker TO worker;
	CREATE ROLE clerk; GRANT eduai_reader TO clerk; GRANT EXECUTE ON FUNCTION eduai.get_task(bigint) TO clerk;
	CREATE TABLE heard (task_id bigint, words text);
	GRANT INSERT ON heard TO app;
	CREATE FUNCTION hear(t eduai.task_status) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.heard VALUES (t.task_id, t.result->>'text') $$});

# ---- the whole payload, and some of its keys ----

my %task = (true => enqueue('SECRETwhole', 'true'), '["prompt"]' => enqueue('SECRETkey', '["prompt"]'));
for my $sensitive (sort keys %task)
{
	my $id = $task{$sensitive};
	my $words = $sensitive eq 'true' ? 'SECRETwhole' : 'SECRETkey';
	completed($id);
	# the simulator says what it was sent
	like(text_for($id, 'app'), qr/"text": "$words"/, "$sensitive: the provider got clear text, and the application reads its answer");
	like(text_for($id, 'worker'), qr/"text": "$words"/, "$sensitive: so does a worker");
	unlike(text_for($id, 'clerk'), qr/SECRET|sealed/, "$sensitive: nobody else");
	my $rest = at_rest($id);
	unlike($rest, qr/SECRET/, "$sensitive: at rest it is nowhere in clear");
	is(() = $rest =~ /\$sealed/g, 2, "$sensitive: payload and result are sealed");
	is(value("SELECT payload ? 'model' FROM eduai.task_request WHERE task_id = $id"), $sensitive eq 'true' ? 'f' : 't', "$sensitive: what else is in the payload");
}

# ---- handlers, dependants, retries ----

my $handled = enqueue('SECRETheard', 'true', q{on_result => 'public.hear'});
completed($handled);
is(value("SELECT words FROM heard WHERE task_id = $handled"), 'SECRETheard', 'a handler gets the result in clear');

my $child = enqueue('{{parents.0.result.text}} and {{parents.1.result.text}}', 'true', "depends_on => '{$task{true},$task{'[\"prompt\"]'}}'");
completed($child);
like(text_for($child, 'app'), qr/"text": "SECRETwhole and SECRETkey"/, 'a dependant sends what its parents got, in clear');
unlike(at_rest($child), qr/SECRET/, 'and keeps it sealed');

my $again = enqueue('SECRETagain', 'true', undef, 'sim-again');
completed($again);
is(value("SELECT attempt FROM eduai.get_task($again)"), '2', 'a second attempt');
like(text_for($again, 'app'), qr/"text": "SECRETagain"/, 'opens the payload once more');
unlike(at_rest($again), qr/SECRET/, 'and what it got is sealed');

# ---- what is said of it meanwhile ----

sim_default($sim, 'sim-fails', 'status=400;type=application/json;body=%7B"error":%7B"message":"SECRETquoted+in+an+error","type":"invalid_request_error"%7D%7D');
add_fleet($node, $sim, provider => 'fails', model => 'sim-fails');
my %shown = (app => qr/SECRET/, worker => qr/SECRET/, clerk => qr/^(?!.*(SECRET|sealed))/);
sub column_for { return value("SET ROLE $_[1]; SELECT coalesce(($_[2])::text, '-') FROM eduai.get_task($_[0])") }
sub at_rest_anywhere
{
	return value(qq{SELECT coalesce(string_agg(v, ' '), '') FROM (SELECT t::text FROM eduai.task_live t WHERE task_id = $_[0] UNION ALL SELECT t::text FROM eduai.task_end t WHERE task_id = $_[0]) v (v)});
}

my $failed = enqueue('SECRETfailed', 'true', 'max_attempts => 1', 'sim-fails');
wait_for_task($node, $failed, 'dead', 20);
like(column_for($failed, $_, 'error'), $shown{$_}, "the words of an error, for $_") for sort keys %shown;
like(column_for($failed, 'clerk', 'error'), qr/"code": "\w+"/, 'its code is for everybody');
unlike(at_rest_anywhere($failed), qr/SECRET/, 'at rest the words are sealed');
unlike(value('SET ROLE clerk; SELECT error FROM eduai.dead_letter'), qr/SECRET/, 'in the dead letter, too');

my $worked = value(q{SELECT eduai.enqueue('custom', '{"n": 1}', user_id => 'ann', max_attempts => 2, metadata => '{"sensitive": true}')});
sub claimed { return value("SELECT attempt FROM eduai.claim_tasks('w', '{custom}', wait => '10 s')") }
my $attempt = claimed();
value("SELECT eduai.append_output($worked, $attempt, 'SECRETstreamed ')");
like(column_for($worked, $_, 'progress'), $shown{$_}, "the text so far, for $_") for sort keys %shown;
value(qq{SELECT eduai.extend_lease($worked, $attempt, '1 min', '{"current": 1, "message": "SECRETstep"}')});
like(column_for($worked, $_, "progress->'message'"), $shown{$_}, "progress, for $_") for sort keys %shown;
like(column_for($worked, $_, "progress->'text'"), $shown{$_}, "with the text so far, for $_") for sort keys %shown;
unlike(at_rest_anywhere($worked), qr/SECRET/, 'at rest progress is sealed');
sub output_for { return value("SET ROLE $_[1]; SELECT seq || coalesce(delta, '-') || done FROM eduai.task_output($_[0], 0, '0 s')") }
value('GRANT EXECUTE ON FUNCTION eduai.task_output(bigint, int, interval) TO clerk');
is(output_for($worked, 'app'), '1SECRETstreamed false', 'task_output() gives it to the application');
is(output_for($worked, 'clerk'), '1-false', 'and to others that there is some');
value("SELECT eduai.fail_task($worked, $attempt, 'SECRETfirst', retry_after => '0 s')");
$attempt = claimed();
is($attempt, 2, 'another attempt');
value("SELECT eduai.fail_task($worked, $attempt, 'SECRETsecond')");
like(column_for($worked, $_, 'error'), $shown{$_}, "all attempts' errors, for $_") for sort keys %shown;
is(value("SELECT string_agg(a->>'message', ' ') FROM eduai.get_task($worked), jsonb_array_elements(error->'attempts') a"), 'SECRETfirst SECRETsecond', 'each of them');
unlike(at_rest_anywhere($worked), qr/SECRET/, 'and none in clear at rest');
my $done = value(q{SELECT eduai.enqueue('custom', '{"n": 2}', user_id => 'ann', metadata => '{"sensitive": true}')});
$attempt = claimed();
value(qq{SELECT eduai.complete_task($done, $attempt, '{"text": "SECRETwhole"}')});
is(output_for($done, 'app'), '1SECRETwholetrue', 'what has ended gives its result');
is(output_for($done, 'clerk'), '0-true', 'to whom it may');
my $open = value(q{SELECT eduai.enqueue('custom', '{"n": 2}', user_id => 'ann')});
$attempt = claimed();
value(qq{SELECT eduai.fail_task($open, $attempt, 'plain words', retry => false)});
like(at_rest_anywhere($open), qr/plain words/, 'of a task that is not sensitive nothing is sealed');

value('CREATE FUNCTION quote_it(t eduai.task_status) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION \'no room for %\', t.result->>\'text\'; END $$');
my $quoted = enqueue('SECRETquoted', 'true', q{on_result => 'public.quote_it'});
completed($quoted);
like(column_for($quoted, $_, 'error'), $shown{$_}, "a handler's error, for $_") for sort keys %shown;
unlike(at_rest_anywhere($quoted), qr/SECRET/, 'is sealed at rest');

# ---- attachments ----

my $file = value(q{SELECT eduai.attach('SECRETbytes', 'audio/webm', 'ann')});
value('GRANT EXECUTE ON FUNCTION eduai.attachment(uuid) TO clerk');
sub bytes_for { return value("SET ROLE $_[1]; SELECT content_type || ' ' || coalesce(convert_from(data, 'UTF8'), '-') FROM eduai.attachment('$_[0]')") }
is(bytes_for($file, $_), 'audio/webm SECRETbytes', "an attachment, for $_") for qw(app worker);
is(bytes_for($file, 'clerk'), 'audio/webm -', 'and for nobody else');
is(value("SELECT sealed AND position('SECRET'::bytea IN data) = 0 FROM eduai.attachment WHERE attachment_id = '$file'"), 't', 'at rest it is sealed');
my $nobody = value(q{SELECT eduai.attach('x', 'audio/webm')});
is(value("SELECT sealed FROM eduai.attachment WHERE attachment_id = '$nobody'"), 'f', 'about nobody it is as it was given');
my $twin = value(q{SELECT eduai.attach('SECRETbytes', 'audio/webm', 'ann')});
is(value("SELECT count(DISTINCT data) FROM eduai.attachment WHERE attachment_id IN ('$file', '$twin')"), '2', 'the same bytes twice are not the same');
value("UPDATE eduai.attachment SET data = (SELECT data FROM eduai.attachment WHERE attachment_id = '$twin') WHERE attachment_id = '$file'");
is(bytes_for($file, 'app'), 'audio/webm -', 'nor do they open in another\'s place');
sub exported { return value("SET ROLE $_[0]; SELECT count(*) FROM eduai.export_user_rows('ann') WHERE source = 'attachments' AND convert_from(decode(row->>'data', 'base64'), 'UTF8') = 'SECRETbytes'") }
value('GRANT EXECUTE ON FUNCTION eduai.export_user_rows(text) TO clerk, app');
is(exported('app'), '1', 'an export has the bytes');
is(exported('clerk'), '0', 'for whom it may');
my $heard_it = value(qq{SELECT eduai.enqueue('transcription', '{"model": "sim-speech", "audio": {"attachment": "$twin"}}', user_id => 'ann')});
completed($heard_it);
# the simulator says how long the file was: sealed it has 29 bytes more
like(text_for($heard_it, 'app'), qr/\b11\b/, 'the provider got the bytes');

# ---- the key store goes between the request and the answer ----

my $sent = sim_stats($sim)->{requests};
my $paid = enqueue('SECRETpaid', 'true', undef, 'sim-late');
wait_until(sub { sim_stats($sim)->{requests} > $sent }, 10, 'the request was sent');
rename "$dir/keys", "$dir/away" or die;
my $tries = sub { return () = PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ /could not record a result: cannot use the key store/g };
wait_until(sub { $tries->() > 7 }, 40, 'the result could not be recorded, more often than an unrecordable one is tried');
is(value("SELECT state FROM eduai.get_task($paid)"), 'running', 'it waits');
my $other = value(q{SELECT eduai.enqueue('chat', '{"model": "sim-chat", "prompt": "plain"}')});
completed($other);
pass('tasks that have nothing sensitive go on');
rename "$dir/away", "$dir/keys" or die;
completed($paid);
like(text_for($paid, 'app'), qr/"text": "SECRETpaid"/, 'with the store back the answer is there');
is(sim_stats($sim)->{requests}, $sent + 2, 'and was asked for once');
is(value("SELECT count(*) FROM eduai.usage_ledger WHERE task_id = $paid"), '1', 'and paid once');

unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/SECRET(?!.*enqueue)/, 'the log has none of the words');
$node->stop;
done_testing();
