# What a statement that only calls eduai's functions sends is to the byte what
# the server would send: jsonb of every shape, texts, NULLs, in whole answers
# and in parts, for clients of the database's encoding and of others.

use strict;
use warnings;

use EduaiTest;
use Test::More;

my $node = new_node();
test_seed();

sub ask { return $node->safe_psql('postgres', $_[0]); }

# ---- values ----

my @PIECES = ('a', ' ', 'plain text of some length, ', '\\"', '\\\\', '/', "\\n\\t\\r\\b\\f", '\\u0001', '\\u001f', '\\u007f', 'é', '中', '😀', "'", '1234567');

sub string { return '"' . join('', map { $PIECES[ rand @PIECES ] } 1 .. rand $_[0]) . '"' }

sub value_of
{
	my ($depth) = @_;
	my $kind = int rand($depth > 0 ? 9 : 6);
	return string(12) if $kind <= 1;
	return (0, -1, 7, 9999, 10000, '1.50', '-0.000001', '1e30', '123456789012345678901234567890.5', '0.10')[ rand 10 ] if $kind <= 3;
	return (qw(true false null))[ rand 3 ] if $kind <= 5;
	# more than 32 entries: some carry where they end, not how long they are
	my $n = rand() < 0.1 ? 33 + int rand 100 : int rand 5;
	return '[' . join(',', map { value_of($depth - 1) } 1 .. $n) . ']' if $kind <= 6;
	return '{' . join(',', map { string(4) . ':' . value_of($depth - 1) } 1 .. $n) . '}';
}

my @values = (qw([] {} [[]] {"":{}} null "" 0 [null]), '"' . ('x' x 100_000) . '"', ('[' x 500) . (']' x 500), map { value_of(4) } 1 .. 600);
ask(join('', map { qq{SELECT eduai.cache_set('k$_', \$json\$$values[$_]\$json\$);} } 0 .. $#values));
my $KEYS = q{(SELECT array_agg('k' || i ORDER BY i) || ARRAY['none', NULL] FROM generate_series(0, } . $#values . ') i)';

my $sent = ask("SELECT key, value FROM eduai.cache_mget($KEYS)");
my $servers = ask("SELECT key, value::text FROM eduai.cache_mget($KEYS)");
cmp_ok(length $sent, '>', 150_000, 'there is much to compare');
ok($sent eq $servers, 'many values, as the server writes them');
my @one_by_one = split /\n/, ask(join('', map { "SELECT eduai.cache_get('k$_');" } 0 .. $#values));
my @servers = split /\n/, ask(join('', map { "SELECT eduai.cache_get('k$_')::text;" } 0 .. $#values));
is(scalar @one_by_one, scalar @values, 'an answer each');
is_deeply(\@one_by_one, \@servers, 'one by one');
is(ask(q{\pset null NULL
SELECT eduai.cache_get('none')}), 'NULL', 'a miss is NULL');

# ---- ways to ask ----

my $wanted = ask("SELECT value::text FROM eduai.cache_mget($KEYS)");
for my $way (
	[ 'a part at a time', "\\set FETCH_COUNT 7\nSELECT value FROM eduai.cache_mget($KEYS)" ],
	[ 'a prepared statement', "PREPARE p AS SELECT value FROM eduai.cache_mget($KEYS); EXECUTE p" ],
	[ 'a cursor', "BEGIN; DECLARE c CURSOR FOR SELECT value FROM eduai.cache_mget($KEYS); FETCH 300 FROM c; FETCH ALL FROM c; COMMIT" ],
	[ 'in order', "SELECT value FROM eduai.cache_mget($KEYS) WITH ORDINALITY AS m (key, value, place) ORDER BY place" ],
	[ 'in COPY', "COPY (SELECT value FROM eduai.cache_mget($KEYS)) TO STDOUT WITH (FORMAT csv, QUOTE E'\\x01')" ],
  )
{
	my ($name, $sql) = @$way;
	(my $got = ask($sql)) =~ s/^\x01(.*)\x01$/$1/mg;
	ok($got eq $wanted, $name);
}

# Columns of other types beside jsonb; a LIMIT makes it a plan of the server's.
ask(q{SELECT eduai.enqueue('custom', jsonb_build_object('n', i, 'text', repeat('"é', i)), user_id => 'u' || i) FROM generate_series(1, 40) i;
SELECT eduai.append_event('s', 'x', jsonb_build_object('n', i / 7.0, 'text', repeat(E'\t', i))) FROM generate_series(1, 40) i});
for my $call (q{eduai.get_tasks(ARRAY(SELECT task_id FROM eduai.task))}, q{eduai.read_stream('s')}, q{eduai.read_all()})
{
	my $all = ask("SELECT * FROM $call");
	cmp_ok(($all =~ tr/\n//), '>=', 39, $call);
	ok($all eq ask("SELECT * FROM $call LIMIT 1000"), '... as the server writes it');
}
is(ask(q{SELECT task_id, attempt, payload FROM eduai.claim_tasks('w', '{custom}', 40)}),
	ask(q{SELECT task_id, attempt, payload FROM eduai.task ORDER BY task_id}), 'claimed tasks');

ask(q{SELECT eduai.cache_set('word', '{"é": ["é", 1]}')});
is(ask(q{SET client_encoding = 'LATIN1'; SELECT eduai.cache_get('word')}), qq({"\xe9": ["\xe9", 1]}), 'a client of another encoding');
ask(q{SELECT eduai.cache_set('far', '"中"')});
is(try_query($node, q{SET client_encoding = 'LATIN1'; SELECT eduai.cache_get('far')}), undef, '... that lacks a letter');

done_testing();
