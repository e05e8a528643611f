# The bound on memory under many sessions: values of all sizes in a small cache,
# checked against their keys; the account of the blocks; both policies.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

my $node = new_node(conf => {
	'eduai.cache_size' => '1MB',
	'eduai.cache_max_entries' => 100000,
});

sub ask { return $node->safe_psql('postgres', $_[0]); }

# What PostgreSQL gave the cache, with its locks, is what was asked for.
is(ask(q{SELECT allocated_size <= 1048576 AND allocated_size > 1000000 FROM pg_shmem_allocations WHERE name = 'eduai_cache'}),
	't', 'one megabyte and no more');
is(ask(q{SELECT size_bytes || ' ' || (overhead_bytes + used_bytes + free_bytes = size_bytes) || ' ' || (overhead_bytes < size_bytes / 5)
	FROM eduai.cache_memory()}), '1048576 true true', 'the account says so');

# A value of a key is made of the key: of noise, so that it does not pack.
ask(q{CREATE FUNCTION value_of(k int) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT to_jsonb(k || (SELECT string_agg(md5(k::text || i), '') FROM generate_series(0, (hashint4(k) & 1023) * (hashint4(k) & 1023) / 8192) i)) $$;
	CREATE TABLE fault (k int, was jsonb)});
my $work = q{DO $do$
DECLARE
	k int;
	v jsonb;
	l eduai.lookup;
BEGIN
	FOR i IN 1 .. 1500 LOOP
		k := (random() ^ 3 * 2000)::int;
		l := eduai.cache_lookup('key:' || k);
		IF l.hit AND l.value IS DISTINCT FROM value_of(k) THEN
			RAISE EXCEPTION 'key % had a value that is not its own: %', k, left(l.value::text, 100);
		END IF;
		IF NOT l.hit THEN
			PERFORM eduai.cache_set('key:' || k, value_of(k), tags => ARRAY['tag:' || k % 10]);
		END IF;
		IF i % 100 = 0 THEN
			PERFORM eduai.cache_delete('key:' || (random() * 2000)::int);
		END IF;
		IF i % 500 = 0 THEN
			PERFORM eduai.cache_delete_pattern('key:?' || (random() * 9)::int || '*');
		END IF;
	END LOOP;
END $do$; SELECT 'done';};

for my $policy (qw(s3fifo lru))
{
	ask("ALTER SYSTEM SET eduai.cache_eviction = '$policy'");
	ask('SELECT pg_reload_conf()');
	wait_until(sub { ask('SHOW eduai.cache_eviction') eq $policy }, 10, "policy $policy");
	my @sessions = map { EduaiSession->new($node) } 1 .. 8;
	$_->send($work) for @sessions;
	is($_->answer(60), 'done', "$policy: every hit was its key's own") for @sessions;
	$_->quit for @sessions;
	is(ask(q{SELECT overhead_bytes + used_bytes + free_bytes = size_bytes FROM eduai.cache_memory()}),
		't', "$policy: each byte is accounted for");
	is(ask(q{SELECT used_bytes = bytes FROM eduai.cache_memory(), (SELECT sum(bytes) AS bytes FROM eduai.cache_stats) s}),
		't', "$policy: each block is an entry's");
	ok(ask(q{SELECT sum(evictions) FROM eduai.cache_stats}) > 100, "$policy: others gave way");
	ok(ask(q{SELECT hits > 1000 FROM eduai.cache_stats WHERE kind = 'default'}), "$policy: there were hits");
}

# Too large for a quarter of it: no, and what stood there stands.
is(ask(q{SELECT eduai.cache_set('large', '1'), eduai.cache_set('large', to_jsonb((SELECT string_agg(md5(i::text), '') FROM generate_series(1, 20000) i))),
	eduai.cache_get('large')}), 't|f|1', 'a value too large is not stored');
# Room for the largest is made of many.
is(ask(q{SELECT eduai.cache_set('quarter', to_jsonb((SELECT string_agg(chr(33 + (hashint4(i) & 63)), '') FROM generate_series(1, 200000) i))),
	length(eduai.cache_get('quarter') #>> '{}')}), 't|200000', 'room for a large one');

# Nothing is lost on the way.
ask('SELECT eduai.cache_clear()');
is(ask(q{SELECT entries || ' ' || used_bytes || ' ' || dictionaries FROM eduai.cache_memory()}), '0 0 0', 'all blocks are back');

done_testing();
