
# A psql behind pipes: a session of its own that a test keeps open, that a forked
# client may have, and that may die with its server.
#
#   my $s = EduaiSession->new($node);              # or ->new($connstr)
#   my $out = $s->ask('BEGIN; SELECT 1;');         # rows and errors; undef when the session died
#   $s->send('SELECT eduai.wait_task(1);');        # and go on
#   my $later = $s->answer(10);
#   $s->quit;
#
# Errors show their SQLSTATE: "ERROR:  UE003: ...".

package EduaiSession;

use strict;
use warnings;

use Carp qw(croak);
use IPC::Open3 ();
use Time::HiRes ();

# new(NODE or connection string, DATABASE)
sub new
{
	my ($class, $node, $database) = @_;
	my $connstr = ref $node ? $node->connstr($database // 'postgres') : $node;
	my ($in, $out);
	# What psql says on both streams comes in one; SIGPIPE is for asking a dead one.
	local $SIG{PIPE} = 'IGNORE';
	local $ENV{PGOPTIONS};
	delete $ENV{PGOPTIONS};
	my $pid = IPC::Open3::open3($in, $out, undef, 'psql', '-XAtq', '-v', 'VERBOSITY=verbose',
		'-v', 'SHOW_CONTEXT=never', '-d', $connstr, '-f', '-');
	$in->autoflush(1);
	return bless { pid => $pid, in => $in, out => $out, buffer => '', asked => 0 }, $class;
}

# Sends statements; their answer is answer()'s next.
sub send
{
	my ($self, $sql) = @_;
	local $SIG{PIPE} = 'IGNORE';
	$self->{asked}++;
	return print { $self->{in} } "$sql\n\\echo <answered $$ $self->{asked}>\n";
}

# answer(SECONDS): what the statements sent last printed, without the line end;
# undef when the session died first. Past the deadline the test file dies.
sub answer
{
	my ($self, $deadline_s) = @_;
	my $end = Time::HiRes::time() + ($deadline_s // 60);
	my $mark = "<answered $$ $self->{asked}>\n";
	while (1)
	{
		my $at = index($self->{buffer}, $mark);
		if ($at >= 0)
		{
			my $answer = substr($self->{buffer}, 0, $at);
			substr($self->{buffer}, 0, $at + length $mark) = '';
			chomp $answer;
			return $answer;
		}
		my $left = $end - Time::HiRes::time();
		croak 'a session did not answer; so far: ' . $self->{buffer} if $left <= 0;
		my $ready = '';
		vec($ready, fileno($self->{out}), 1) = 1;
		next unless select($ready, undef, undef, $left) > 0;
		return undef unless sysread $self->{out}, $self->{buffer}, 65536, length $self->{buffer};
	}
}

sub ask
{
	my ($self, $sql, $deadline_s) = @_;
	$self->send($sql);
	return $self->answer($deadline_s);
}

# True once the answer to what was sent last has come, without waiting.
sub answered
{
	my ($self) = @_;
	my $ready = '';
	vec($ready, fileno($self->{out}), 1) = 1;
	sysread $self->{out}, $self->{buffer}, 65536, length $self->{buffer} if select($ready, undef, undef, 0) > 0;
	return index($self->{buffer}, "<answered $$ $self->{asked}>\n") >= 0;
}

# All that a session printed and nobody has asked for, after its server has died;
# nothing more can be sent.
sub drain
{
	my ($self) = @_;
	close $self->{in};
	1 while sysread $self->{out}, $self->{buffer}, 65536, length $self->{buffer};
	return $self->{buffer};
}

sub backend_pid { return $_[0]->ask('SELECT pg_backend_pid();') }

sub quit
{
	my ($self) = @_;
	local $?;
	close $self->{in} if $self->{in};
	waitpid $self->{pid}, 0 if $self->{pid};
	$self->{in} = $self->{pid} = undef;
}

# Ends psql wherever it is; the server notices later.
sub kill
{
	my ($self) = @_;
	CORE::kill 'KILL', $self->{pid} if $self->{pid};
	$self->quit;
}

1;
