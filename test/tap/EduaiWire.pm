# A connection that speaks the protocol by hand: what a statement sends, to the byte,
# and portals as drivers use them.
#
#   my $wire = EduaiWire->new($node, user => 'postgres', options => { client_min_messages => 'debug3' });
#   my @messages = $wire->simple('SELECT 1');
#   $wire->parse('s', 'SELECT $1::text');
#   my @messages = $wire->run('s', ['x'], format => 0, rows => 0, times => 1);
#
# A message is [ type, bytes ].  Notices are kept apart: notices() gives them and forgets.

package EduaiWire;

use strict;
use warnings;

use Carp qw(croak);
use IO::Socket::UNIX;

sub new
{
	my ($class, $node, %option) = @_;
	my $socket = IO::Socket::UNIX->new(Peer => $node->host . '/.s.PGSQL.' . $node->port) or croak "no server: $!";
	my $self = bless { socket => $socket, notices => [] }, $class;
	my %start = (user => $option{user} // 'postgres', database => 'postgres', %{ $option{options} // {} });
	my $body = pack('N', 196608) . join('', map { "$_\0$start{$_}\0" } sort keys %start) . "\0";
	$self->{socket}->syswrite(pack('N', 4 + length $body) . $body);
	my @refused = map { $_->[1] } grep { $_->[0] eq 'E' } $self->answer;
	croak "refused: @refused" if @refused;
	return $self;
}

sub send
{
	my ($self, @messages) = @_;
	my $bytes = join '', map { $_->[0] . pack('N', 4 + length $_->[1]) . $_->[1] } @messages;
	return $self->{socket}->syswrite($bytes) == length $bytes || croak 'the server went away';
}

sub receive
{
	my ($self, $n) = @_;
	my $bytes = '';
	while (length $bytes < $n)
	{
		$self->{socket}->sysread($bytes, $n - length $bytes, length $bytes) or croak 'the server went away';
	}
	return $bytes;
}

# All messages until the server is ready again.
sub answer
{
	my ($self) = @_;
	my @messages;
	while (1)
	{
		my ($type, $length) = unpack 'aN', $self->receive(5);
		my $body = $self->receive($length - 4);
		if   ($type eq 'N') { push @{ $self->{notices} }, $body }
		else                { push @messages, [ $type, $body ] }
		return @messages if $type eq 'Z';
	}
}

sub notices
{
	my ($self) = @_;
	return splice @{ $self->{notices} };
}

sub simple
{
	my ($self, $sql) = @_;
	$self->send([ 'Q', "$sql\0" ]);
	return $self->answer;
}

sub parse
{
	my ($self, $name, $sql) = @_;
	$self->send([ 'P', "$name\0$sql\0" . pack('n', 0) ], [ 'S', '' ]);
	my @answer = $self->answer;
	croak "cannot parse $sql: $answer[0][1]" if $answer[0][0] eq 'E';
	return;
}

# Binds, describes, executes; "times" times with at most "rows" rows each.
sub run
{
	my ($self, $name, $values, %option) = @_;
	my $bind = "\0$name\0" . pack('n n', 0, scalar @$values);
	$bind .= join '', map { defined $_ ? pack('N', length $_) . $_ : pack('N', 0xFFFFFFFF) } @$values;
	$bind .= pack('n n', 1, $option{format} // 0);
	my $execute = [ 'E', "\0" . pack('N', $option{rows} // 0) ];
	$self->send([ 'B', $bind ], [ 'D', "P\0" ], ($execute) x ($option{times} // 1), [ 'S', '' ]);
	return $self->answer;
}

1;
