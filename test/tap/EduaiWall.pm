# The fault wall: what becomes of a task for each way in which a provider breaks.
#
# A row names a fault as the simulator knows it, and how it ends:
#   ok         the answer is good all the same
#   once       the first attempt fails; the next one is answered
#   retry      each attempt fails; another instance may do better
#   elsewhere  another attempt at the same instance is of no use
#   fatal      no attempt anywhere is of use
# Each row is run twice, with instances of its own: alone, and beside a second
# instance of a higher tier that is well. All rows run at once.

package EduaiWall;

use strict;
use warnings;

use EduaiTest;
use Exporter 'import';
use JSON::PP ();
use Test::More;

our @EXPORT = qw(wall_providers run_wall dispatcher_pid rss_kb);

my $json = JSON::PP->new->utf8->canonical->allow_nonref;

# Generous, so that a slow machine breaks none of those that are not under test.
my %patient = (connect_ms => 20000, first_byte_ms => 20000, stall_ms => 20000);
my $attempts = 2;

# wall_providers(NODE, SIM): a provider of each kind at the simulator.
sub wall_providers
{
	my ($node, $sim) = @_;
	my %path = (openai => '/v1', anthropic => '', openrouter => '/api/v1', huggingface => '/v1');
	$node->safe_psql('postgres', join '', map {
		"SELECT eduai.add_provider('$_', '$_', '$sim->{base_url}$path{$_}', 'sk-wall-0123456789', '{\"allow_loopback\": true}');\n"
	} sort keys %path);
	$node->safe_psql('postgres', q{SELECT eduai.configure_pool('chat', '{chat}', 400)});
}

sub quoted { return q{'} . ($_[0] =~ s/'/''/gr) . q{'} }

# The SQL of a row's instances, and the calls of enqueue() as (label, SQL).
sub arrange
{
	my ($sim, $n, %row) = @_;
	my $kind = $row{kind} // 'openai';
	my %options = (%patient, stream => $row{stream} ? JSON::PP::true : JSON::PP::false, $kind eq 'anthropic' ? (max_output_tokens => 100) : (), %{ $row{options} // {} });
	my (@sql, @tasks);
	for my $setting (qw(alone beside))
	{
		next if $row{only} && $row{only} ne $setting;
		my $alias = "$setting-$n";
		my $model = $row{suffix} ? "wall-$alias\@$row{fault}" : "wall-$alias";
		sim_default($sim, $model, $row{fault}) unless $row{suffix};
		push @sql, "SELECT eduai.add_instance('$alias', '@{[$row{provider} // $kind]}', '$model', options => "
		  . quoted($json->encode({ %options, aliases => [$alias] })) . ');';
		push @sql, "SELECT eduai.add_instance('$alias-second', 'openai', 'well-$alias', options => "
		  . quoted($json->encode({ %patient, tier => 2, aliases => [$alias] })) . ');'
		  if $setting eq 'beside';
		my $payload = $json->encode({
			model => $alias, user => $alias, messages => [ { role => 'user', content => 'hello' } ],
			%{ $row{payload} // {} } });
		my $most = $row{attempts} // ($row{ends} eq 'once' || $row{ends} eq 'ok' ? 3 : $attempts);
		push @tasks, [ $setting, 'eduai.enqueue(\'chat\', ' . quoted($payload) . ", max_attempts => $most"
			  . ($row{timeout} ? ", timeout => '$row{timeout}'" : '') . ')' ];
	}
	return (\@sql, \@tasks);
}

# What a row's task must have come to, in that setting.
sub expectation
{
	my ($setting, %row) = @_;
	my $code = $row{code};
	my $alone = $setting eq 'alone';
	my %expect = $row{ends} eq 'ok' ? (state => 'completed', codes => [])
	  : $row{ends} eq 'fatal'       ? (state => 'dead', codes => [$code])
	  : !$alone                     ? (state => 'completed', codes => [$code], elsewhere => 1)
	  : $row{ends} eq 'once'        ? (state => 'completed', codes => [$code])
	  : $row{ends} eq 'elsewhere'   ? (state => 'dead', codes => [$code])
	  :                               (state => 'dead', codes => [ ($code) x ($row{attempts} // $attempts) ]);
	%expect = (%expect, %{ $row{$setting} // {} });
	$expect{requests} //= @{ $expect{codes} } + ($expect{state} eq 'completed' ? 1 : 0);
	return %expect;
}

sub fetch
{
	my ($node, @ids) = @_;
	my $ids = join ',', @ids;
	my $text = $node->safe_psql('postgres', "
		SELECT json_object_agg(t.task_id, json_build_object('state', t.state, 'attempt', t.attempt, 'error', t.error, 'result', t.result,
			'wait_s', extract(epoch FROM (SELECT run_at FROM eduai.task v WHERE v.task_id = t.task_id) - now()),
			'calls', (SELECT json_agg(json_build_object('code', coalesce(code, outcome), 'instance', instance, 'status', http_status, 'ms', ms,
				'cost', cost_usd, 'started', extract(epoch FROM started_at)) ORDER BY attempt) FROM eduai.usage_ledger l WHERE l.task_id = t.task_id)))
		FROM unnest('{$ids}'::bigint[]) id, eduai.get_task(id) t");
	return $json->decode($text);
}

sub codes_match
{
	my ($got, $want) = @_;
	return 0 if @$got != @$want;
	for my $k (0 .. $#$want)
	{
		return 0 unless ref $want->[$k] ? $got->[$k] =~ $want->[$k] : $got->[$k] eq $want->[$k];
	}
	return 1;
}

sub words { return join ', ', map { ref $_ ? "like $_" : $_ } @_ }

# Every failed expectation of one task, in words.
sub complaints
{
	my ($task, $sent, $expect, $row, $setting, $n) = @_;
	my @calls = @{ $task->{calls} // [] };
	my @codes = map { $_->{code} } @calls;
	my @want = (@{ $expect->{codes} }, $expect->{state} eq 'completed' ? 'completed' : ());
	my @instances = map { $_->{instance} =~ s/^\Q$setting-$n\E-?//r || 'first' } @calls;
	my @bad;
	push @bad, "is $task->{state}, not $expect->{state}" if $task->{state} ne $expect->{state};
	push @bad, 'calls ended as ' . words(@codes) . '; wanted ' . words(@want) unless codes_match(\@codes, \@want);
	my @places = map { $expect->{elsewhere} && $_ == $#want ? 'second' : 'first' } 0 .. $#want;
	push @bad, "went to @instances, not to @places" if "@instances" ne "@places";
	push @bad, scalar(@$sent) . " requests arrived, not $expect->{requests}" if @$sent != $expect->{requests};
	push @bad, "the task counts $task->{attempt} attempts" if $task->{attempt} != @want;

	# From when the provider had the request: its wish is counted from its answer,
	# which came later, so nothing less than the wish can ever be right.
	if ($setting eq 'alone' && defined $row->{pause_ms})
	{
		my ($least, $most) = @{ $row->{pause_ms} };
		for (1 .. $#$sent)
		{
			my $pause = ($sent->[$_]{first_byte_us} - $sent->[ $_ - 1 ]{arrival_us}) / 1000;
			push @bad, "the pause was $pause ms, not $least to $most" if $pause < $least || $pause > $most;
			# the backoff doubles
			$least *= 2 if $row->{doubles};
		}
	}
	if ($row->{took_ms} && @calls)
	{
		my ($least, $most) = @{ $row->{took_ms} };
		push @bad, "the first call took $calls[0]{ms} ms, not $least to $most" if $calls[0]{ms} < $least || $calls[0]{ms} > $most;
	}
	if ($expect->{state} eq 'dead' && $row->{message})
	{
		my $message = $task->{error}{message} // '';
		push @bad, "the message is \"$message\"" unless $message =~ $row->{message};
	}
	if ($task->{state} eq 'completed' && $row->{result} && $setting eq 'alone')
	{
		my $text = $task->{result}{text} // '(none)';
		push @bad, "the text is \"$text\"" unless $text =~ $row->{result};
	}
	if ($expect->{state} eq 'dead')
	{
		my @told = map { $_->{code} } @{ $task->{error}{attempts} // [] };
		push @bad, "its error tells of @told" if "@told" ne "@codes";
	}
	push @bad, 'a key shows in its error' if $json->encode($task->{error}) =~ /sk-wall/;
	push @bad, 'its error holds markup or control characters' if ($task->{error}{message} // '') =~ /[<\x00-\x1f]/;
	my %keys = map { $_->{idempotency_key} => 1 } grep { $_->{idempotency_key} ne '' } @$sent;
	push @bad, 'several idempotency keys' if keys %keys > 1;
	return @bad;
}

# run_wall(NODE, SIM, DEADLINE_S, [NAME, fault => ..., ends => ..., code => ...], ...)
#   fault     the simulator's behaviour; suffix => 1: behind the model's name
#   stream    1: the answer is asked for as a stream
#   kind      openai; provider: its name when it is not the kind's
#   attempts  max_attempts; timeout; options of the instance; payload
#   pause_ms  [least, most] between two requests, alone; doubles => 1
#   took_ms   [least, most] of the first call
#   message, result   patterns
#   alone, beside     { state, codes, requests, elsewhere } where they differ
#   only      alone or beside
# Returns the pauses in ms before a second instance was asked.
sub run_wall
{
	my ($node, $sim, $deadline_s, @rows) = @_;
	my (@sql, @tasks, @pauses);
	for my $n (0 .. $#rows)
	{
		my ($name, %row) = @{ $rows[$n] };
		my ($instances, $calls) = arrange($sim, $n, %row);
		push @sql, @$instances;
		push @tasks, map { { n => $n, setting => $_->[0], sql => $_->[1] } } @$calls;
	}
	$node->safe_psql('postgres', join "\n", 'SET client_min_messages = error;', @sql);
	my @ids = split /\n/, $node->safe_psql('postgres', join "\n", map { "SELECT $_->{sql};" } @tasks);
	$tasks[$_]{id} = $ids[$_] for 0 .. $#tasks;

	my @final = grep { my ($name, %row) = @{ $rows[ $_->{n} ] }; ({ expectation($_->{setting}, %row) }->{state}) ne 'scheduled' } @tasks;
	my $ids = join ',', map { $_->{id} } @final;
	eval {
		wait_until(
			sub {
				$node->safe_psql('postgres', "SELECT count(*) FROM unnest('{$ids}'::bigint[]) id, eduai.get_task(id) t WHERE t.state NOT IN ('completed', 'dead')") == 0;
			},
			$deadline_s, 'all tasks have ended');
		1;
	} or diag "$@: those that have not are told below";

	my %sent;
	push @{ $sent{ $_->{user} } }, $_ for @{ sim_journal($sim) };
	my $seen = fetch($node, @ids);
	for my $t (@tasks)
	{
		my ($name, %row) = @{ $rows[ $t->{n} ] };
		my $task = $seen->{ $t->{id} };
		my %expect = expectation($t->{setting}, %row);
		my @bad = complaints($task, $sent{"$t->{setting}-$t->{n}"} // [], \%expect, \%row, $t->{setting}, $t->{n});
		push @bad, $row{also}->($task, $t->{setting}) if $row{also};
		is(join('; ', @bad), '', "$name, $t->{setting}: $expect{state}" . (@{ $expect{codes} } ? ' after ' . words(@{ $expect{codes} }) : ''))
		  or diag $json->encode($task);
		my @calls = @{ $task->{calls} // [] };
		push @pauses, ($calls[1]{started} - $calls[0]{started}) * 1000 - $calls[0]{ms} if $expect{elsewhere} && @calls == 2;
	}
	return @pauses;
}

sub dispatcher_pid
{
	my ($node) = @_;
	return $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'eduai dispatcher'});
}

# Resident memory; peak: the most it ever was.
sub rss_kb
{
	my ($pid, $peak) = @_;
	my $field = $peak ? 'VmHWM' : 'VmRSS';
	open my $file, '<', "/proc/$pid/status" or die "no process $pid";
	my ($kb) = join('', <$file>) =~ /^$field:\s+(\d+) kB/m;
	return $kb;
}

1;
