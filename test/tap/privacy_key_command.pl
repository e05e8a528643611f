# Learners' keys behind a command: nothing of them or of names where others could
# see it, nothing stored, shown or erased on the word of a command that fails,
# hangs, says too much, too little or something else.

use strict;
use warnings;

use Cwd qw(abs_path);
use EduaiSession;
use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
mkdir "$dir/kms" or die;
my $example = abs_path('examples/key_store.sh');
# The example, with a log of its calls and faults: the file "fault" says in which.
append_to_file("$dir/kms.sh", <<"SH");
#!/bin/sh
input=\$(cat)
printf '%s|%s\\n' "\$*" "\$input" >>$dir/calls
env >$dir/env
ls -l /proc/\$\$/fd >$dir/fds
fault=\$(cat $dir/fault 2>/dev/null)
case "\$fault \$1" in
"fail "* | "fail-destroy destroy") exit 3 ;;
"silent "*) exit 0 ;;
"garbage "*) echo 'no entry of mine'; exit 0 ;;
"long "*) head -c 1500 /dev/zero | tr '\\0' A; exit 0 ;;
"hang "*) sleep 1000 & echo \$! >$dir/alive; wait; exit 0 ;;
"forget put" | "keep destroy") exit 0 ;;
"gate put") while test -e $dir/fault; do sleep 0.02; done ;;
esac
printf '%s' "\$input" | $example $dir/kms "\$@"
SH
my $command = "sh $dir/kms.sh";
my $node = new_node(conf => { 'eduai.test_mode' => 'on', 'eduai.key_store_command' => $command, 'eduai.key_store_timeout' => '10s', 'eduai.erasure_ledger' => "$dir/ledger" });
$node->safe_psql('postgres', 'CREATE ROLE app; GRANT eduai_app TO app; CREATE ROLE clerk; GRANT eduai_admin TO clerk;
	GRANT EXECUTE ON FUNCTION eduai.read_stream(text, bigint, int, boolean) TO clerk');
my ($session, $other) = map { EduaiSession->new($node) } 1, 2;

sub ask { return $session->ask($_[0]) }
sub publish { return "SELECT count(eduai.publish_event('exercise_attempted', '$_[0]', NULL, '{\"answer\": \"$_[1]\"}'));" }
sub put { return ask(publish(@_)) }
sub answers { return ($_[1] // $session)->ask("SELECT string_agg(coalesce(data->>'answer', '-'), ',' ORDER BY data->>'answer') FROM eduai.read_stream('learner-$_[0]');") }
sub problem { return ask("SELECT detail FROM eduai.health_problems() WHERE code = 'key_store_unusable';") }
sub calls { return -e "$dir/calls" ? split /\n/, slurp_file("$dir/calls") : () }
# entries of learners
sub entries { return grep { /\/[0-9a-f]{64}$/ } glob "$dir/kms/*" }

sub fault
{
	my ($fault) = @_;
	unlink "$dir/fault";
	append_to_file("$dir/fault", $fault) if $fault;
	return;
}

my $refused = qr/ERROR:  55000: cannot use the key store/;

# ---- made, used ----

like(put('ann', 'x'), qr/$refused.*there is no key store behind the command yet/s, 'nothing is made by itself');
fault('forget');
like(ask('SELECT eduai.create_key_store();'), qr/ERROR:  55000: .*did not keep the entry of the store/s, 'one that is not kept is not made');
fault('');
is(ask('SELECT eduai.create_key_store();'), '', 'a store is made');
like(ask('SELECT eduai.create_key_store();'), qr/ERROR:  55000: .*there is a key store behind the command already/s, 'once');
is(put('ann', 'SECRET-1'), '1', 'what is sensitive is stored');
is(answers('ann'), 'SECRET-1', 'and read');
is(ask("SELECT count(*) FROM eduai.event WHERE data->'answer' ? '\$sealed';"), '1', 'sealed');
is(ask("SET ROLE clerk; SELECT coalesce(data->>'answer', '-') FROM eduai.read_stream('learner-ann'); RESET ROLE;"), '-', 'for who may see it');
is(answers('ann', $other), 'SECRET-1', 'another process finds the key');
is(scalar entries(), 1, 'in its entry');
my $calls = calls();
put('ann', "SECRET-$_") for 2 .. 9;
is(calls(), $calls, 'a key that is remembered is not asked for');
like($_, qr/^(get|put|replace|destroy) (store|[0-9a-f]{64})\|[A-Za-z0-9+\/=]{0,300}$/, 'a call tells nobody who it is about, and has nothing secret in its words') for calls();
unlike(join("\n", grep { /^get|^destroy/ } calls()), qr/\|./, 'and reads something only where it keeps it');
is(join(' ', sort map { /^(\w+)=/ ? $1 : () } split /\n/, slurp_file("$dir/env")), join(' ', sort qw(PATH HOME PWD), slurp_file("$dir/env") =~ /^(OLDPWD|SHLVL|_)=/mg), 'nothing of the server\'s environment goes with it');
unlike(slurp_file("$dir/fds"), qr/socket:|anon_inode|base|PG_VERSION/, 'nor a file that the server has open');

# ---- two at once ----

fault('gate');
$_->send(publish('rival', 'r')) for $session, $other;
wait_until(sub { (grep { /^put/ } calls()) >= 3 }, 20, 'both have found no key and made one');
fault('');
is($_->answer(20), '1', 'stored') for $session, $other;
is(answers('rival', $_), 'r,r', 'under one key') for $session, $other;

# ---- commands that cannot be believed ----

sub answer_again
{
	fault('');
	return wait_until(sub { answers('ann') =~ /SECRET-1,/ }, 10, 'it answers again');
}

sub unusable
{
	my ($fault, $why) = @_;
	fault($fault);
	# somebody whom nobody remembers
	like(put("new-$fault", 'y'), qr/$refused.*\nDETAIL:  .*$why/s, "$fault: nothing is stored");
	is(ask("SELECT count(*) FROM eduai.event WHERE user_id = 'new-$fault';"), '0', "$fault: not in clear either");
	my $fresh = EduaiSession->new($node);
	like(answers('ann', $fresh), $refused, "$fault: nothing is shown");
	like(problem(), qr/./, "$fault: health() says so") if $fault !~ /forget/;
	is(ask("SELECT count(*) FROM eduai.read_stream('learner-none');"), '0', "$fault: the rest goes on");
	$fresh->quit;
	answer_again();
	return;
}

sub fresh { $session->quit; $session = EduaiSession->new($node); return }
for ([ fail => qr/the command failed/ ], [ silent => qr/printed nothing/ ], [ garbage => qr/not base64/ ])
{
	fresh();
	unusable(@$_);
}
like(put("known-$_->[0]", 'y'), qr/^1$/, 'in order, it goes on') for [1];
for ([ garbage => qr/not that of a learner/ ], [ long => qr/printed too much/ ], [ forget => qr/did not keep the entry/ ])
{
	my ($fault, $why) = @$_;
	fault($fault);
	like(put("late-$fault", 'y'), qr/$refused.*\nDETAIL:  .*$why/s, "$fault: a process that knows the store refuses, too");
	is(ask("SELECT count(*) FROM eduai.event WHERE user_id = 'late-$fault';"), '0', 'and stores nothing');
	fault('');
	wait_until(sub { put("after-$fault", 'y') eq '1' }, 10, 'it goes on');
}
my $umask = umask 077;
my %entry = map { $_ => slurp_file($_) } entries();
my ($mine, $theirs) = sort keys %entry;
for my $pair ([ $mine, $entry{$theirs} ], [ $mine, substr($entry{$mine}, 0, 40) ])
{
	unlink $mine;
	append_to_file($mine, $pair->[1]);
	my $fresh = EduaiSession->new($node);
	my $all = join '', map { answers($_, $fresh) } qw(ann rival known-1 after-garbage after-long after-forget);
	like($all, qr/does not open: it was altered, or is another learner's|not that of a learner's key/, 'an entry of another learner, or a part of one, opens nothing');
	$fresh->quit;
}
unlink $mine;
append_to_file($mine, $entry{$mine});
umask $umask;

# One that hangs is ended in time, and left alone for a while.
ask("ALTER SYSTEM SET eduai.key_store_timeout = '600ms';");
$node->reload;
wait_until(sub { $_->ask('SHOW eduai.key_store_timeout;') eq '600ms' }, 10, 'the limit') for $session, $other;
fault('hang');
my $began = time;
like(put('hung', 'y'), qr/$refused.*took too long/s, 'one that hangs is given up');
cmp_ok(time - $began, '<', 5, 'in time');
my $pid = slurp_file("$dir/alive") + 0;
wait_until(sub { !kill 0, $pid }, 5, 'and ended, with what it started');
$calls = calls();
like($other->ask(publish('hung', 'y')), qr/$refused.*failed a moment ago/s, 'others do not wait for it');
is(calls(), $calls, 'it is left alone');
ask('ALTER SYSTEM RESET eduai.key_store_timeout;');
$node->reload;
wait_until(sub { $_->ask('SHOW eduai.key_store_timeout;') eq '10s' }, 10, 'the limit') for $session, $other;
answer_again();
wait_until(sub { put('hung', 'y') eq '1' }, 15, 'and asked again later');

# ---- a key is destroyed ----

is(put('bea', 'gone'), '1', 'a learner');
is(answers('bea', $other), 'gone', 'whose key another process remembers');
my @before = entries();
is(ask("SELECT eduai.test_destroy_key('bea');"), 't', 'it is destroyed');
is(scalar entries(), @before - 1, 'in the service');
is(answers('bea', $other), '-', 'and used by nobody from then on');
is(ask("SELECT eduai.test_destroy_key('bea');"), 'f', 'once');
is(put('bea', 'again'), '1', 'a new key');
like(answers('bea'), qr/^again,\{"\$sealed": "[^"]+"\}$/, 'does not open what the old one sealed');

# ---- an erasure while the service does not destroy ----

sub erasures { return ask("SELECT count(*) FILTER (WHERE completed_at IS NULL), count(*) FILTER (WHERE keys_destroyed_at IS NULL) FROM eduai.erasure;") }
put('child', 'diary');
is(answers('child', $other), 'diary', 'a learner');
@before = entries();
# one that is past the key, and waits for a table
put('early', 'x');
ask("CREATE TABLE homework (who text); INSERT INTO homework VALUES ('early'); SELECT eduai.register_personal_data('homework', 'who');");
$other->ask('BEGIN; LOCK TABLE homework IN SHARE MODE;');
ask("SELECT eduai.erase_user('early');");
wait_until(sub { erasures() eq '1|0' }, 30, 'its key is destroyed');
for my $fault (qw(fail-destroy keep))
{
	my $said = $fault eq 'keep' ? qr/destroy: the command still has the entry/ : qr/destroy: the command failed/;
	fault($fault);
	ask("SELECT eduai.erase_user('child');") if $fault eq 'fail-destroy';
	wait_until(sub { slurp_file($node->logfile) =~ $said }, 30, "$fault: it is tried");
	if ($fault eq 'fail-destroy')
	{
		$other->ask('COMMIT;');
		wait_until(sub { ask('SELECT count(*) FROM homework;') eq '0' }, 20, "$fault: another learner's goes on");
	}
	like(erasures(), qr/^[12]\|1$/, "$fault: no erasure counts as complete, nor its key as destroyed");
	is(scalar entries(), scalar @before, "$fault: the key is there");
	like(put('child', 'more'), qr/UE008/, "$fault: and nothing more is taken");
	is(answers('child', $other), '-', "$fault: nothing shown");
}
fault('');
wait_until(sub { erasures() eq '0|0' }, 40, 'the service works, and the erasure ends');
is(scalar entries(), @before - 1, 'with the key destroyed');

# ---- a new master key ----

write_master_key($node, 'next', 'test');
my %wrapped = map { $_ => slurp_file($_) } entries();
is(ask("SELECT string_agg(code, ' ') FROM eduai.health_problems() WHERE code LIKE '%master%';"), 'old_master_key_needed', 'health() says that a rotation is due');
is(ask('SELECT eduai.rotate_master_key();'), '1', 'it wraps the entry of the store anew');
is(ask('SELECT eduai.rotate_master_key();'), '0', 'once');
is_deeply({ map { $_ => slurp_file($_) } entries() }, \%wrapped, 'and touches no learner\'s');
write_master_key($node, 'next');
fresh();
is(answers('rival'), 'r,r', 'without the older master key all is read');
is(ask("SELECT count(*) FROM eduai.health_problems() WHERE code LIKE '%master%' OR code LIKE 'key%';"), '0', 'health() is content');

# ---- settings ----

$node->append_conf('postgresql.conf', "eduai.key_store = '$dir/file'\n");
$node->reload;
wait_until(sub { ask('SHOW eduai.key_store;') ne '' }, 10, 'the setting');
like(put('ann', 'x'), qr/$refused.*are both set/s, 'a file and a command are one too many');
unlike(slurp_file($node->logfile), qr/SECRET-\d(?!.*publish_event)/, 'the log has nothing secret');
$_->quit for $session, $other;
$node->stop;
done_testing();
