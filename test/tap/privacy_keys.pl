
# The key store: what is sensitive is nowhere in clear, and a store that cannot be
# used refuses rather than to store or show anything else.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use File::Copy qw(copy move);
use File::Find qw(find);
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(start => 0, name => 'keys', conf => { 'eduai.test_mode' => 'on' });
my $store = $node->basedir . '/key.store';
$node->append_conf('postgresql.conf', "eduai.key_store = '$store'\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION eduai');
$node->safe_psql('postgres', 'CREATE ROLE app; GRANT eduai_app TO app; CREATE ROLE clerk; GRANT eduai_admin TO clerk;
	GRANT EXECUTE ON FUNCTION eduai.read_stream(text, bigint, int, boolean) TO clerk');
my $session = EduaiSession->new($node);

sub ask { return $session->ask($_[0]) }

sub put
{
	my ($user, $answer) = @_;
	return ask("SELECT count(eduai.publish_event('exercise_attempted', '$user', NULL, '{\"item\": \"PLAINcanary\", \"answer\": \"$answer\"}'));");
}

sub answers
{
	my ($user, $role) = @_;
	return ask('SET ROLE ' . ($role // 'app') . "; SELECT data->>'answer' FROM eduai.read_stream('learner-$user'); RESET ROLE;");
}

sub fault
{
	return ask("SELECT detail FROM eduai.health_problems() WHERE code = 'key_store_unusable';");
}

my $refused = qr/ERROR:  55000: cannot use the key store/;

# ---- without a store ----

like(put('ann', 'x'), $refused, 'what is sensitive is not stored in clear');
is(ask("SELECT count(eduai.publish_event('exercise_attempted', 'ann', NULL, '{\"item\": \"a\"}'));"), '1', 'what is not is stored');
like(fault(), qr/No such file/, 'health() says so');
is(ask('SELECT eduai.create_key_store();'), '', 'a store is made');
like(ask('SELECT eduai.create_key_store();'), qr/ERROR:  55000: .*\nDETAIL:  .*File exists/, 'and never over another');
is((stat $store)[2] & 0777, 0600, 'for the server alone');
is(fault(), '', 'health() has nothing to say');

# ---- in clear for whoever may see it, and nowhere else ----

put('ann', "SECRETcanary-$_") for 1 .. 3;
my $whole = "\nSECRETcanary-1\nSECRETcanary-2\nSECRETcanary-3";
is(answers('ann'), $whole, 'the application reads it');
is(answers('ann', 'clerk'), "\n\n\n", 'an administrator sees null');
is(ask("SELECT count(*) FROM eduai.event WHERE data->'answer' ? '\$sealed';"), '3', 'and in the table what is sealed');

# ---- the same again is the same ----

my $again = sub { "SELECT version FROM eduai.append_event('again-1', 'exercise_attempted', '{\"answer\": $_[0]}', 'eve', event_id => '00000000-0000-7000-8000-00000000000$_[1]');" };
is(ask($again->('[1.0, "x"]', 1)), '1', 'an event with an id of its own');
is(ask($again->('[1.0, "x"]', 1)), '1', 'sent again');
is(ask($again->('[1.00, "x"]', 1)), '1', 'with a number that is the same');
like(ask($again->('[1.01, "x"]', 1)), qr/ERROR:  UE006: .*differs in "data"/s, 'and with another');
is(ask($again->('[1.0, "x"]', 2)), '2', 'the same content under another id');
is(ask("SELECT count(DISTINCT data) FROM eduai.event WHERE stream = 'again-1';"), '1', 'is the same bytes');
ask("SELECT eduai.append_event('again-2', 'exercise_attempted', '{\"answer\": [1.0, \"x\"]}', 'eva');");
ask("SELECT eduai.append_event('again-2', 'exercise_completed', '{\"answer\": [1.0, \"x\"]}', 'eve');");
is(ask("SELECT count(DISTINCT data) FROM eduai.event WHERE stream LIKE 'again-_';"), '3', 'but not for another learner or type');
ask("SELECT eduai.register_event_type('twin', '{a,b}');");
ask("SELECT eduai.append_event('twin-1', 'twin', '{\"a\": {\"deep\": [null, true]}, \"b\": {\"deep\": [null, true]}, \"c\": null}', 'eve');");
is(ask("SELECT data->'a' <> data->'b' FROM eduai.event WHERE stream = 'twin-1';"), 't', 'nor in another field');
is(ask("SELECT data FROM eduai.read_stream('twin-1');"), '{"a": {"deep": [null, true]}, "b": {"deep": [null, true]}, "c": null}', 'and all that JSON has comes back');
ask("SELECT eduai.append_event('twin-2', 'learning_started', jsonb_build_object('content_id', (SELECT data->'a' FROM eduai.event WHERE stream = 'twin-1')), 'eve');");
like(ask("SELECT data FROM eduai.read_stream('twin-2');"), qr/\{"content_id": \{"\$sealed": /, 'what was sealed for another type does not open there');

# ---- tasks ----

my $task = ask("SELECT eduai.enqueue('custom', '{\"text\": \"SECRETcanary-task\"}', user_id => 'zoe', metadata => '{\"sensitive\": true}');");
like(ask("SELECT payload FROM eduai.claim_tasks('w', '{custom}');"), qr/SECRETcanary-task/, 'a worker gets its payload');
ask("SELECT eduai.complete_task($task, 1, '{\"text\": \"SECRETcanary-result\"}');");
like(ask("SELECT result FROM eduai.get_task($task);"), qr/SECRETcanary-result/, 'and the application its result');
ask('CHECKPOINT; SELECT pg_switch_wal();');
my (%seen, $bytes);
find(
	{ no_chdir => 1, wanted => sub {
		return unless -f $_;
		open my $in, '<:raw', $_ or return;
		local $/;
		my $content = <$in> // '';
		$bytes += length $content;
		$seen{$1}++ while $content =~ /(PLAINcanary|SECRETcanary)/g;
	} }, $node->data_dir);
ok($seen{PLAINcanary} && $bytes > 10_000_000, 'the search finds what is in clear in the data directory');
is($seen{SECRETcanary}, undef, 'and nothing sensitive, in tables, TOAST or WAL');
my ($dump, $err) = run_command([ 'pg_dump', '-d', $node->connstr('postgres') ]);
like($dump, qr/PLAINcanary/, 'a dump has what is in clear');
unlike($dump, qr/SECRETcanary/, 'and nothing sensitive');
unlike(slurp_file($store), qr/ann/, 'the store names nobody');

# ---- a restored dump has the keys of the database it was made of ----

$node->safe_psql('postgres', 'CREATE DATABASE other');
append_to_file($node->basedir . '/dump.sql', $dump);
is(run_log([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('other'), '-f', $node->basedir . '/dump.sql' ]), 1, 'it restores')
  or diag($err);
my $other = EduaiSession->new($node, 'other');
my $read = "SELECT data->>'answer' FROM eduai.read_stream('learner-ann');";
is($other->ask($read), $whole, 'and reads');
$node->safe_psql('postgres', 'CREATE DATABASE third');
my $third = EduaiSession->new($node, 'third');
is($third->ask('CREATE EXTENSION eduai;'), '', 'a database of its own');
$third->ask("SELECT eduai.publish_event('exercise_attempted', 'ann', NULL, '{\"answer\": \"third\"}');");
is($third->ask($read), 'third', 'has a key of its own for a learner of the same name');
is($third->ask("SELECT eduai.test_destroy_key('ann');"), 't', 'which ends alone');
is($third->ask($read), '', 'there');
is(answers('ann'), $whole, 'and not here');

# ---- stores that cannot be used ----

sub unusable
{
	my ($what, $why, %option) = @_;
	like(put('ann', 'y'), qr/$refused.*\nDETAIL:  .*$why/s, "$what: nothing is stored");
	like(answers('ann'), $refused, "$what: nothing is shown");
	is(answers('ann', 'clerk'), "\n\n\n", "$what: who may not see it sees null");
	like(fault(), $why, "$what: health() says so");
	is(ask("SELECT count(*) FROM eduai.read_stream('learner-none');"), '0', "$what: the rest goes on");
	return;
}

sub replace_store
{
	my ($content) = @_;
	my $umask = umask 077;
	open my $out, '>:raw', "$store.other" or die;
	print $out $content;
	close $out;
	umask $umask;
	rename "$store.other", $store;
}

copy($store, "$store.kept");
move($store, "$store.away");
unusable('a missing store', qr/No such file/);
replace_store(pack('N*', map { int rand 2**32 } 1 .. 5000));
unusable('garbage', qr/not a key store/);
my $content = slurp_file("$store.away");
replace_store(substr($content, 0, 3000));
unusable('a cut store', qr/shorter|damaged/);
my $zeros = $content;
substr($zeros, 0, 1024) = "\0" x 1024;
replace_store($zeros);
unusable('one without a header', qr/not a key store/);
my $torn = $content;
substr($torn, 0, 512) = 'x' x 512;
replace_store($torn);
is(answers('ann'), $whole, 'one copy of the header is enough');
replace_store($content);
chmod 0644, $store;
$session->quit;
$session = EduaiSession->new($node);
unusable('a store that others may read', qr/mode must be 0600/);
chmod 0600, $store;
is(answers('ann'), $whole, 'in order again, it is used again without a restart');

my $inside = $node->data_dir . '/key.store';
sub set_store
{
	my ($path) = @_;
	$node->append_conf('postgresql.conf', "eduai.key_store = '$path'\n");
	$node->reload;
	wait_until(sub { ask('SHOW eduai.key_store;') eq $path }, 10, 'the setting');
}
copy($store, $inside);
chmod 0600, $inside;
set_store($inside);
unusable('a store in the data directory', qr/in the data directory/);
symlink $node->data_dir, $node->basedir . '/link';
set_store($node->basedir . '/link/key.store');
unusable('or by a link into it', qr/in the data directory/);
unlink $inside;
like(ask('SELECT eduai.create_key_store();'), qr/in the data directory/, 'none is made there');
set_store($store);

# ---- only to be read; full ----

SKIP:
{
	skip 'root may write everything', 3 if $> == 0;
	chmod 0400, $store;
	$session->quit;
	$session = EduaiSession->new($node);
	is(answers('ann'), $whole, 'a store that may only be read shows');
	is(put('ann', 'SECRETcanary-4'), '1', 'and seals for who has a key');
	like(put('bob', 'x'), qr/$refused.*may not be written/s, 'but makes no key');
	chmod 0600, $store;
	$session->quit;
	$session = EduaiSession->new($node);
}
my $pid = ask('SELECT pg_backend_pid();');
is(put('bob', 'first'), '1', 'a new learner');
system_or_bail('prlimit', "--pid=$pid", '--fsize=4096:unlimited');
like(put('carl', 'x'), qr/$refused.*could not be written/s, 'no room: nothing is stored');
system_or_bail('prlimit', "--pid=$pid", '--fsize=unlimited:unlimited');
is(put('carl', 'second'), '1', 'with room it goes on');
is(answers('bob') . answers('carl'), 'firstsecond', 'and both read');

# ---- torn slots ----

# finds the slots in use: (offset, copy) of each copy that is not zero
sub copies_in_use
{
	my $all = slurp_file($store);
	return grep { substr($all, $_, 256) =~ /[^\0]/ } map { 4096 + 256 * $_ } 0 .. (length($all) - 4096) / 256 - 1;
}
my @used = copies_in_use();
open my $io, '+<:raw', $store or die;
for my $at (@used)
{
	my $twin = ($at - 4096) % 512 ? $at - 256 : $at + 256;
	next if grep { $_ == $twin } @used;
	seek $io, $twin, 0;
	print $io 'torn' x 64;
}
close $io;
is(answers('bob') . answers('carl'), 'firstsecond', 'a torn second copy does no harm');
$session->quit;
$session = EduaiSession->new($node);
is(answers('bob') . answers('carl'), 'firstsecond', 'nor to whoever reads it anew');

# ---- the setting that forbids clear text ----

ask('ALTER SYSTEM SET eduai.require_encryption = on;');
$node->reload;
wait_until(sub { ask('SHOW eduai.require_encryption;') eq 'on' }, 10, 'the setting');
is(put('bob', 'z'), '1', 'sealed is fine');
like(ask("SELECT eduai.append_event('s-1', 'exercise_attempted', '{\"answer\": \"x\"}');"),
	qr/ERROR:  55000: sensitive fields cannot be stored without a user_id/, 'about nobody is refused');
set_store('');
like(put('bob', 'z'), qr/ERROR:  55000: sensitive fields cannot be stored without encryption/, 'so is all without a store');
like(ask("SELECT eduai.enqueue('custom', '{}', user_id => 'bob', metadata => '{\"sensitive\": true}');"),
	qr/ERROR:  55000: sensitive fields cannot be stored without encryption/, 'and a task');
is(ask("SELECT count(eduai.publish_event('exercise_attempted', 'bob', NULL, '{\"item\": \"a\"}'));"), '1', 'the rest is stored');
ask('ALTER SYSTEM RESET eduai.require_encryption;');
$node->reload;
wait_until(sub { ask('SHOW eduai.require_encryption;') eq 'off' }, 10, 'the setting');
is(put('dora', 'clear'), '1', 'without either it is stored as it is');
set_store($store);
is(answers('dora'), 'clear', 'and read');

# ---- a command instead of the file ----

my $script = $node->basedir . '/keys.sh';
append_to_file($script, 'cat ' . master_key_file($node) . "\n");
sub set_command
{
	my ($command) = @_;
	$node->append_conf('postgresql.conf', "eduai.master_key_file = ''\neduai.master_key_command = '$command'\n");
	$node->reload;
	wait_until(sub { ask('SHOW eduai.master_key_command;') eq $command }, 10, 'the setting');
}
set_command("sh $script");
is(answers('bob'), "first\nz\n", 'a command prints the keys');
set_command('exit 3');
like(answers('bob'), qr/$refused.*the command failed/s, 'one that fails opens nothing');
set_command('echo nonsense');
like(answers('bob'), qr/$refused.*is not "ID BASE64"/s, 'nor one that prints something else');

# One that hangs is ended in time, with what it started, and holds up nobody for longer.
my $alive = $node->basedir . '/alive';
$node->append_conf('postgresql.conf', "eduai.master_key_timeout = '300ms'\n");
set_command("echo \$\$ > $alive; sleep 1000; echo x");
wait_until(sub { ask('SHOW eduai.master_key_timeout;') eq '300ms' }, 10, 'the limit');
my $began = time;
like(answers('bob'), qr/$refused.*took too long/s, 'one that hangs is given up');
cmp_ok(time - $began, '<', 5, 'in time');
my $pid = slurp_file($alive) + 0;
wait_until(sub { !kill 0, -$pid }, 5, 'and ended, with what it started');
set_command("echo \$\$ > $alive.2; exec >&-; sleep 1000");
$began = time;
like(answers('bob'), qr/$refused.*took too long/s, 'so is one that has closed its output and goes on');
cmp_ok(time - $began, '<', 10, 'in time');
my $silent = slurp_file("$alive.2") + 0;
wait_until(sub { !kill 0, -$silent }, 5, 'and ended');
set_command('yes');
like(answers('bob'), qr/$refused.*printed too much/s, 'what does not stop printing is not read to its end');
set_command('yes "#" | head -c 8000; cat ' . master_key_file($node));
is(answers('bob'), "first\nz\n", 'the most that it may print is read');
set_command("sh $script");
is(answers('bob'), "first\nz\n", 'the next one that answers is believed');
$_->quit for $session, $other, $third;
$node->stop;
done_testing();
