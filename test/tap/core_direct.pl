# A statement that is one call of a function goes past the executor: what it sends is
# to the byte what the server would send, for every way in which clients ask, and
# whatever the server would do beside (rights, errors, cancels, cursors, other
# libraries' hooks) is done. A LIMIT makes the same statement a plan of the server's.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use EduaiWire;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node(conf => { 'eduai.test_mode' => 'on' });

sub ask { return $node->safe_psql('postgres', $_[0]) }

sub wire { return EduaiWire->new($node, options => { client_min_messages => 'debug3' }, @_) }

sub was_direct { return scalar grep { /is called directly/ } $_[0]->notices }

sub types { return join '', map { $_->[0] } @_ }

sub code_of { return (map { $_->[1] =~ /C([0-9A-Z]{5})\0/ } grep { $_->[0] eq 'E' } @_)[0] // '' }

sub bytes { return join '', map { "$_->[0]$_->[1]" } @_ }

sub readable { return join '; ', map { s/[^ -~]+/ /gr } @_ }

sub values_of
{
	my @rows;
	for my $row (map { $_->[1] } grep { $_->[0] eq 'D' } @_)
	{
		my ($n, @columns) = (unpack('n', $row));
		my $at = 2;
		while ($n-- > 0)
		{
			my $length = unpack 'l>', substr $row, $at, 4;
			push @columns, $length < 0 ? 'NULL' : substr $row, $at + 4, $length;
			$at += 4 + ($length < 0 ? 0 : $length);
		}
		push @rows, join '|', @columns;
	}
	return join "\n", @rows;
}

ask(q{SELECT eduai.cache_set('k' || i, jsonb_build_object('n', i, 'text', repeat('"é', i))) FROM generate_series(1, 300) i;
SELECT eduai.define_tier('t' || i, 10, p::interval) FROM (VALUES (1, '1 s'), (2, '1 hour'), (3, '0.25 s'), (4, '99:59:59.999999'), (5, '100:00:00'),
  (6, '1 day'), (7, '1 mon 3 days'), (8, '25:01:00.5'), (9, '1 day 02:03:04.000005'), (10, '00:10:00.1'), (11, '2 mons')) AS t (i, p);
SELECT eduai.define_tier('g', 10, '1 hour', 'gcra'), eduai.define_tier('c', 3, NULL, 'concurrency')});
my $KEYS = '{' . join(',', map { "k$_" } 1 .. 300) . ',none,NULL}';

# ---- the bytes ----

# How many of seven runs are direct, if not all: a NULL that the planner sees, as in the
# first five, makes a call of a strict function that returns no set a constant.
my @CALLS = (
	[ 'SELECT eduai.cache_get($1)', ['k7'] ],
	[ 'SELECT eduai.cache_get($1)', ['none'] ],
	[ 'SELECT eduai.cache_get($1)', [undef], 2 ],
	[ 'SELECT eduai.cache_get(NULL)', [], 0 ],
	[ 'SELECT eduai.cache_get($1::varchar) AS "a name"', ['k300'] ],
	[ 'SELECT eduai.cache_delete($1)', ['none'] ],
	[ 'SELECT eduai.rate_ok($1, $2, $3)', [ 'u', 'admin', 1 ] ],
	[ 'SELECT eduai.rate_reset($1, $2)', [ 'u', 'public' ] ],
	[ 'SELECT eduai.cache_delete_tag($1)', ['none'] ],
	[ 'SELECT * FROM eduai.cache_mget($1)', [$KEYS] ],
	[ 'SELECT value AS v, key FROM eduai.cache_mget($1) AS m', [$KEYS] ],
	[ 'SELECT b, a, b FROM eduai.cache_mget($1) AS m (a, b)', ['{k1,k2}'] ],
	[ 'SELECT key AS x FROM eduai.cache_mget($1)', ['{k1,k2}'] ],
	[ 'SELECT value AS x FROM eduai.cache_mget($1)', ['{k1,k2}'] ],
	[ 'SELECT value FROM eduai.cache_mget($1) WITH ORDINALITY', ['{k1,k2}'] ],
	[ 'SELECT * FROM eduai.cache_mget($1)', ['{}'] ],
	[ 'SELECT * FROM eduai.cache_mget($1)', [undef] ],
	[ 'SELECT limit_count AS x FROM eduai.rate_peek($1)', ['fresh'] ],
	[ 'SELECT per AS x FROM eduai.rate_peek($1)', ['fresh'] ],
	[ 'SELECT * FROM eduai.cache_lookup($1)', ['k1'] ],
	[ 'SELECT * FROM eduai.cache_lookup($1)', ['none'] ],
	[ 'SELECT * FROM eduai.cache_lookup($1)', [undef], 2 ],
	[ 'SELECT * FROM eduai.rate_limit($1, $2)', [ 'u', 'admin' ] ],
	[ 'SELECT allowed, tier FROM eduai.rate_limit($1, $2)', [ 'u', 'admin' ] ],
	[ q{SELECT allowed, per FROM eduai.rate_limit_all(ARRAY['u', 'v'], ARRAY['admin', 'admin'])}, [] ],
	(map { [ 'SELECT * FROM eduai.rate_peek($1, $2)', [ 'fresh', $_ ] ] } 'public', 'g', 'c', map { "t$_" } 1 .. 11),
);

# The answers of seven runs of the statement, and how many were direct.
sub answers
{
	my ($wire, $sql, $values, %option) = @_;
	$wire->simple('DEALLOCATE ALL');
	$wire->parse('s', $sql);
	$wire->notices;
	my @answers = map { [ $wire->run('s', $values, %option) ] } 1 .. 7;
	return (\@answers, was_direct($wire));
}

sub same
{
	my ($wire, $call, $name, %option) = @_;
	my ($sql, $values, $expected) = (@$call, 7);
	my ($ours, $direct) = answers($wire, $sql, $values, %option);
	my ($servers, $none) = answers($wire, "$sql LIMIT 100000", $values, %option);
	my $differ = grep { bytes(@{ $ours->[$_] }) ne bytes(@{ $servers->[$_] }) } 0 .. 6;
	my $shown = join ', ', map { defined $_ ? (length $_ > 40 ? '...' : $_) : 'NULL' } @$values;
	is("$differ $direct $none", "0 $expected 0", "$name: $sql ($shown)");
	return;
}

my $wire = wire();
same($wire, $_, 'bytes') for @CALLS;
for my $style ('sql_standard', 'postgres_verbose', 'iso_8601')
{
	$wire->simple("SET intervalstyle = $style");
	same($wire, $_, $style) for grep { $_->[0] =~ /rate_peek/ } @CALLS;
}
$wire->simple('RESET intervalstyle');
my $peeked = values_of($wire->simple(q{SELECT per FROM eduai.rate_peek('fresh', 't8')}));
is($peeked, '25:01:00.5', 'an interval');

for my $sql ('SELECT eduai.cache_get(\'k1\')', 'SELECT eduai.cache_get(\'k1\'); SELECT * FROM eduai.cache_mget(\'{k1,k2}\')')
{
	$wire->notices;
	my @ours = $wire->simple($sql);
	my $direct = was_direct($wire);
	(my $other = $sql) =~ s/(;|$)/ LIMIT 9$1/g;
	ok($direct == ($sql =~ tr/;//) + 1 && bytes(@ours) eq bytes($wire->simple($other)), "the simple protocol: $sql");
}

# ---- ways to ask that are the server's ----

sub not_direct
{
	my ($wire, $call, $name, %option) = @_;
	my ($sql, $values) = @$call;
	my ($ours, $direct) = answers($wire, $sql, $values, %option);
	my ($servers) = answers($wire, "$sql LIMIT 100000", $values, %option);
	is($direct, 0, "$name: not direct");
	ok(bytes(map { @$_ } @$ours) eq bytes(map { @$_ } @$servers), '... the same bytes');
	return;
}

my $MGET = [ 'SELECT * FROM eduai.cache_mget($1)', [$KEYS] ];
my $GET = [ 'SELECT eduai.cache_get($1)', ['k7'] ];
not_direct($wire, $MGET, 'binary rows', format => 1);
not_direct($wire, $GET, 'a binary value', format => 1);
not_direct($wire, $MGET, 'seven rows at a time', rows => 7, times => 50);
not_direct($wire, $GET, 'one row at a time', rows => 1, times => 2);
for my $call ($MGET, $GET)
{
	my ($ours) = answers($wire, @$call, times => 2);
	my ($servers) = answers($wire, "$call->[0] LIMIT 1000", $call->[1], times => 2);
	ok(bytes(map { @$_ } @$ours) eq bytes(map { @$_ } @$servers), "asked again when there is nothing more: $call->[0]");
}
my $latin = wire(options => { client_encoding => 'LATIN1', client_min_messages => 'debug3' });
not_direct($latin, $_, 'another encoding') for $MGET, $GET;

for my $way (
	[ 'a cursor', q{BEGIN; DECLARE c CURSOR FOR %s; FETCH 1 FROM c; FETCH ALL FROM c; COMMIT} ],
	[ 'a cursor that scrolls', q{BEGIN; DECLARE c SCROLL CURSOR FOR %s; FETCH ALL FROM c; FETCH FIRST FROM c; FETCH BACKWARD ALL FROM c; COMMIT} ],
	[ 'a cursor that does not', q{BEGIN; DECLARE c NO SCROLL CURSOR FOR %s; MOVE 1 FROM c; FETCH ALL FROM c; FETCH FIRST FROM c; ROLLBACK} ],
	[ 'a cursor that stays', q{BEGIN; DECLARE c CURSOR WITH HOLD FOR %s; FETCH 1 FROM c; COMMIT; FETCH ALL FROM c; CLOSE c} ],
	[ 'WHERE CURRENT OF', q{CREATE TEMP TABLE x (y int); BEGIN; DECLARE c NO SCROLL CURSOR FOR %s; DELETE FROM x WHERE CURRENT OF c; ROLLBACK; DROP TABLE x} ],
	[ 'EXECUTE', q{PREPARE p AS %s; EXECUTE p; EXECUTE p; DEALLOCATE p} ],
	[ 'COPY', q{COPY (%s) TO STDOUT} ],
	[ 'CREATE TABLE AS', q{CREATE TEMP TABLE made AS %s; SELECT made::text FROM made; DROP TABLE made} ],
	[ 'CREATE TABLE AS EXECUTE', q{PREPARE p AS %s; CREATE TEMP TABLE made AS EXECUTE p; SELECT made::text FROM made; DROP TABLE made; DEALLOCATE p} ],
	[ 'a loop in PL/pgSQL', q{DO $do$ DECLARE r record; n int := 0; BEGIN FOR r IN %s LOOP n := n + 1; RAISE NOTICE '%%', r; END LOOP; END $do$} ],
	[ 'a cursor in PL/pgSQL', q{DO $do$ DECLARE c refcursor; r record; BEGIN OPEN c FOR %s; FETCH c INTO r; RAISE NOTICE '%%', r; CLOSE c; END $do$} ],
	[ 'a subquery', q{SELECT * FROM (%s) s} ],
  )
{
	my ($name, $text) = @$way;
	for my $sql (q{SELECT eduai.cache_get('k7')}, q{SELECT * FROM eduai.cache_mget('{k1,k2,k3}')})
	{
		my $said = sub { map { my $n = $_; $n =~ s/\0[FLR][^\0]*//g; $n } grep { /\0C00000/ } $_[0]->notices };
		my $plain = wire(options => {});
		my @ours = $plain->simple(sprintf $text, $sql);
		my @noted = $said->($plain);
		$plain->simple('ROLLBACK; DROP TABLE IF EXISTS x');
		$plain->notices;
		my @servers = $plain->simple(sprintf $text, "$sql LIMIT 1000");
		s/\0P\d+\0/\0/ for map { $_->[1] } grep { $_->[0] eq 'E' } @ours, @servers;
		s/ LIMIT 1000//g for map { $_->[1] } @servers;
		my @noted_then = $said->($plain);
		ok(bytes(@ours) eq bytes(@servers) && "@noted" eq "@noted_then", "$name: $sql")
		  || diag(types(@ours), ' ', types(@servers), ' ', readable((map { $_->[1] } grep { $_->[0] eq 'E' } @ours, @servers), '-', @noted, '-', @noted_then));
	}
}
for my $text (
	'SELECT eduai.cache_get($1), 1', 'SELECT eduai.cache_get($1) WHERE now() > \'2020-01-01\'', 'SELECT eduai.cache_get(left($1 || random(), 2))',
	'SELECT m.key FROM eduai.cache_mget(ARRAY[$1]) m WHERE m.key > \'a\'', 'SELECT (eduai.cache_lookup($1)).hit',
	'SELECT * FROM eduai.cache_mget(ARRAY[$1, \'k2\']::text[]) WITH ORDINALITY', 'SELECT * FROM ROWS FROM (eduai.cache_mget(ARRAY[$1]), eduai.cache_lookup($1))',
	'SELECT m FROM eduai.cache_mget(ARRAY[$1]) m', 'SELECT DISTINCT eduai.cache_get($1)', 'SELECT eduai.cache_lookup($1)')
{
	not_direct($wire, [ $text, ['k1'] ], $text);
}

# ---- errors ----

my @failed = $wire->run('s', []);
$wire->parse('bad', 'SELECT eduai.cache_get($1)');
for my $case ([ ['']], [ [ 'x' x 2000 ] ])
{
	my @ours = $wire->run('bad', $case->[0]);
	my @then = $wire->run('bad', ['k7']);
	is(types(@ours) . code_of(@ours) . types(@then), '2TEZ220232TDCZ', 'an error, and the next call');
}
$wire->simple('BEGIN');
$wire->simple('SAVEPOINT a');
is(code_of($wire->run('bad', [''])), '22023', 'an error within a transaction');
is(code_of($wire->run('bad', ['k7'])), '25P02', '... which is aborted');
$wire->simple('ROLLBACK TO a');
is(types($wire->run('bad', ['k7'])), '2TDCZ', '... as far as the savepoint');
$wire->simple('COMMIT');
$wire->parse('rows', 'SELECT * FROM eduai.cache_mget($1)');
my @half = $wire->run('rows', ['{k1,""}']);
is(code_of(@half), '22023', 'an error among rows');
is(types($wire->run('rows', ['{k1,k2}'])), '2TDDCZ', '... and the next call');
is(code_of($wire->simple(q{SELECT * FROM eduai.rate_limit(NULL, 'public')})), '22004', 'an argument that may not be null');

# A call that waits for a lock: cancelled by time and by a session.
my $holder = EduaiSession->new($node);
$holder->ask('BEGIN; LOCK TABLE eduai.rate_tier IN ACCESS EXCLUSIVE MODE;');
my $waiting = wire();
$waiting->simple(q{SET statement_timeout = '200ms'});
$waiting->notices;
my @timed_out = $waiting->simple(q{SELECT eduai.define_tier('late', 1, '1 s')});
is(code_of(@timed_out) . was_direct($waiting), '570141', 'a timeout');
$waiting->simple('RESET statement_timeout');
my $pid = values_of($waiting->simple('SELECT pg_backend_pid()'));
$waiting->send([ 'Q', "SELECT eduai.define_tier('late', 1, '1 s')\0" ]);
wait_until(sub { ask("SELECT count(*) FROM pg_locks WHERE pid = $pid AND NOT granted") }, 20, 'it waits');
ask("SELECT pg_cancel_backend($pid)");
is(code_of($waiting->answer), '57014', 'a cancel');
$holder->ask('ROLLBACK;');
is(types($waiting->simple(q{SELECT eduai.define_tier('late', 1, '1 s')})), 'TDCZ', '... and the next call');

# ---- rights, and functions that become others ----

ask('CREATE ROLE pupil LOGIN; GRANT USAGE ON SCHEMA eduai TO pupil');
my $pupil = wire(user => 'pupil');
$pupil->parse('s', 'SELECT eduai.cache_get($1)');
$pupil->parse('m', 'SELECT * FROM eduai.cache_mget($1)');
for my $statement ([ 's', 'k7', 'cache_get(text)' ], [ 'm', '{k7}', 'cache_mget(text[])' ])
{
	my ($name, $value, $function) = @$statement;
	my @codes;
	for my $change ('', "GRANT EXECUTE ON FUNCTION eduai.$function TO pupil", "REVOKE EXECUTE ON FUNCTION eduai.$function FROM pupil",
		"GRANT eduai_app TO pupil", "REVOKE eduai_app FROM pupil")
	{
		ask($change) if $change;
		my @answer = $pupil->run($name, [$value]);
		push @codes, types(@answer) . code_of(@answer);
	}
	is_deeply(\@codes, [ 'EZ42501', '2TDCZ', 'EZ42501', '2TDCZ', 'EZ42501' ], "the right to call $function, each time");
}
ask(q{CREATE FUNCTION public.through(k text) RETURNS jsonb LANGUAGE sql SECURITY DEFINER AS 'SELECT eduai.cache_get(k)'});
is(values_of($pupil->simple(q{SELECT public.through('k1')->'n'})), '1', 'by a function with its owner\'s rights');

my $changes = wire();
for my $step (
	[ 'ALTER FUNCTION eduai.cache_get(text) SECURITY DEFINER', 0 ],
	[ 'ALTER FUNCTION eduai.cache_get(text) SECURITY INVOKER', 1 ],
	[ q{ALTER FUNCTION eduai.cache_get(text) SET work_mem = '1MB'}, 0 ],
	[ 'ALTER FUNCTION eduai.cache_get(text) RESET ALL', 1 ],
  )
{
	my ($sql, $expected) = @$step;
	ask($sql);
	same_value($changes, $expected, $sql);
}

sub same_value
{
	my ($wire, $expected, $name) = @_;
	$wire->notices;
	my $n = values_of($wire->simple(q{SELECT eduai.cache_get('k1')}));
	like($n, qr/^\{"n": 1, /, $name);
	is(was_direct($wire), $expected, $expected ? '... direct' : '... not direct');
	return;
}

$changes->parse('s', q{SELECT eduai.cache_get('k1')});
ask(q{BEGIN; CREATE TABLE kept AS SELECT prosrc, probin FROM pg_proc WHERE oid = 'eduai.cache_get(text)'::regprocedure;
CREATE OR REPLACE FUNCTION eduai.cache_get(key text) RETURNS jsonb LANGUAGE plpgsql VOLATILE STRICT PARALLEL RESTRICTED AS $f$ BEGIN RETURN '"other"'; END $f$; COMMIT});
is(values_of($changes->run('s', [])), '"other"', 'the function replaced by another');
ask(q{CREATE OR REPLACE FUNCTION eduai.cache_get(key text) RETURNS jsonb AS '$libdir/eduai', 'eduai_cache_get' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED});
like(values_of($changes->run('s', [])), qr/"n": 1/, '... and back');
my $before = values_of($changes->simple('SELECT eduai.cache_get(\'k2\')'));
ask('DROP EXTENSION eduai CASCADE; CREATE EXTENSION eduai');
is(code_of($changes->run('s', [])), '', 'the extension made again under a prepared statement');
is(values_of($changes->simple(q{SELECT eduai.cache_set('k2', '[2]')})) . values_of($changes->simple(q{SELECT eduai.cache_get('k2')})), 't[2]', '... and a new one');

# ---- in a path, counted, beside other libraries ----

my $path = wire(options => { search_path => 'eduai', client_min_messages => 'debug3', track_functions => 'all' });
$path->parse('s', q{SELECT cache_get('k2')});
is(values_of($path->run('s', [])) . was_direct($path), '[2]1', 'found in a path');
$path->simple(q{SET search_path = public; CREATE FUNCTION public.cache_get(text) RETURNS jsonb LANGUAGE sql AS 'SELECT jsonb ''"mine"'''});
is(values_of($path->run('s', [])) . was_direct($path), '"mine"0', '... and in another');
$path->simple('DROP FUNCTION public.cache_get(text)');
my $calls = q{SELECT calls FROM pg_stat_user_functions WHERE funcid = 'eduai.cache_get(text)'::regprocedure};
undef $path;
wait_until(sub { ask($calls) eq '1' }, 20, 'calls are counted');

for my $libraries ('eduai,pg_stat_statements,auto_explain', 'pg_stat_statements,auto_explain,eduai')
{
	my $direct = $libraries =~ /^eduai/ ? 1 : 0;
	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$libraries'\nauto_explain.log_min_duration = 0\nauto_explain.log_verbose = on\n");
	$node->restart;
	ask(q{CREATE EXTENSION IF NOT EXISTS pg_stat_statements; SELECT pg_stat_statements_reset(); SELECT eduai.cache_set('k1', '1'), eduai.cache_set('k2', '2')});
	my $beside = wire();
	my $log = -s $node->logfile;
	$beside->parse('m', 'SELECT * FROM eduai.cache_mget($1)');
	$beside->parse('g', 'SELECT eduai.cache_get($1)');
	$beside->notices;
	is(values_of($beside->run('m', ['{k1,k2}'])), "k1|1\nk2|2", "rows with $libraries") for 1 .. 7;
	is(values_of($beside->run('g', ['k1'])), '1', 'a value');
	is(was_direct($beside), 8 * $direct, $direct ? 'direct' : 'not direct');
	is(ask(q{SELECT string_agg(calls || ' ' || rows || ' ' || (total_exec_time > 0), ', ' ORDER BY rows) FROM pg_stat_statements WHERE query ~ '^SELECT .*cache_m?get\('}),
		'1 1 true, 7 14 true', 'counted');
	$beside->simple('SET auto_explain.log_analyze = on');
	$beside->notices;
	is(values_of($beside->run('g', ['k2'])) . was_direct($beside), '20', 'measured: not direct');
	my $logged = substr PostgreSQL::Test::Utils::slurp_file($node->logfile), $log;
	like($logged, qr/Function Scan on eduai\.cache_mget/, 'explained');
	like($logged, qr/Result.*Output: eduai\.cache_get/s, 'explained: a value');
}

done_testing();
