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
