# A table that is full of keys that count, and a pool of slots' holders that is:
# what was stated happens, and never does a call go uncounted.

use strict;
use warnings;

use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.test_mode' => 'on', 'eduai.rate_keys' => 64, 'eduai.rate_slots' => 16 });

sub value { return $node->safe_psql('postgres', $_[0]) }
sub problems { return value(q{SELECT coalesce(string_agg(code, ',' ORDER BY code), '') FROM eduai.health_problems() WHERE code LIKE 'rate%'}) }

sub policy
{
	my ($policy) = @_;
	$node->append_conf('postgresql.conf', "eduai.rate_when_full = $policy\n");
	$node->reload;
	wait_until(sub { value('SHOW eduai.rate_when_full') eq $policy }, 10, 'the policy');
}

value(q{SELECT eduai.define_tier('slots', 3, NULL, 'concurrency'), eduai.define_tier('minute', 5, '1 min')});
is(problems(), '', 'nothing is wrong at first');

# ---- refuse ----

is(value(q{SELECT count(*) FILTER (WHERE eduai.rate_ok('k' || n)) FROM generate_series(1, 200) n}), 64, 'as many keys as there is room for');
is(value(q{SELECT allowed, remaining, retry_after IS NULL, bound_by FROM eduai.rate_limit('new')}), 'f|0|t|eduai.rate_keys', 'a further one is refused, and what binds is said');
is(value(q{SELECT allowed FROM eduai.rate_peek('new')}), 'f', 'a peek says the same');
is(value(q{SELECT allowed, bound_by FROM eduai.rate_limit_all('{k1,new}', '{public,public}')}), 'f|eduai.rate_keys', 'a hierarchy is refused with it');
is(value(q{SELECT remaining FROM eduai.rate_peek('k1')}), 99, 'and consumes nothing');
my ($code, $out, $err) = $node->psql('postgres', q{\set VERBOSITY verbose
SELECT eduai.require_rate('new')});
like($err, qr/UE002: there is no room to count the key "new".*eduai\.rate_keys/s, 'require_rate says why');
is(problems(), 'rate_keys_full', 'health() says so');
is(value(q{SELECT (eduai.health()->'ratelimit'->>'keys')::int = 64 AND (eduai.health()->'ratelimit'->>'refused_for_room')::int >= 136}), 't', 'and counts them');
is(value(q{SELECT eduai.rate_ok('k1')}), 't', 'keys that are there go on');
is(value(q{SELECT eduai.rate_ok('any', 'admin')}), 't', 'an unlimited tier needs no room');
is(value(q{SELECT eduai.rate_reset('k2'), eduai.rate_ok('new')}), '|t', 'a key that is reset makes room');
is(value(q{SELECT eduai.rate_refund('k3'), eduai.rate_ok('new2')}), '|t', 'and one that has nothing left that counts');
is(value(q{SELECT eduai.rate_ok('new3')}), 'f', 'no other does');
value(q{SELECT eduai.test_clock('60 min')});
is(value(q{SELECT eduai.rate_ok('new4')}), 'f', 'nor within the hour');
value(q{SELECT eduai.test_clock('62 min')});
is(value(q{SELECT count(*) FILTER (WHERE eduai.rate_ok('later' || n)) FROM generate_series(1, 64) n}), 64, 'after it all do');
value(q{SELECT eduai.test_clock('70 min')});
is(problems(), '', 'health() forgets it after a while');

# ---- overflow: a limit shared by those without room ----

policy('overflow');
is(value(q{SELECT count(*) FILTER (WHERE eduai.rate_ok('more' || n, 'minute')) FROM generate_series(1, 200) n}), 5, 'keys without room share one limit');
is(value(q{SELECT allowed, remaining, bound_by FROM eduai.rate_limit('more300', 'minute')}), 'f|0|more300', 'which is used up for all');
is(value(q{SELECT count(*) FROM eduai.rate_status WHERE key IS NULL AND tier = 'minute' AND remaining = 0}), 1, 'it is seen in rate_status');
is(value(q{SELECT eduai.rate_ok('slot', 'slots')}), 'f', 'slots are refused');
is(value(q{SELECT allowed FROM eduai.rate_limit_all('{pair1,pair2}', '{authenticated,authenticated}')}), 'f', 'two keys without room are not let in by one counter');
# a key that gets room begins with what it may have used
is(value(q{SELECT eduai.rate_reset('later1'), (eduai.rate_peek('more1', 'minute')).allowed}), '|f', 'a key that gets room now may have used the shared limit');
value(q{SELECT eduai.test_clock('72 min')});
is(value(q{SELECT eduai.rate_ok('more1', 'minute')}), 't', 'until its period is over');
is(problems(), 'rate_keys_full', 'health() says so');

# more kinds of them than places are kept aside: refused
value(q{SELECT eduai.define_tier('many' || n, 5, '1 hour') FROM generate_series(1, 10) n});
is(value(q{SELECT count(*) FILTER (WHERE eduai.rate_ok('x', 'many' || n)) < 10 FROM generate_series(1, 10) n}), 't', 'there is room for some such counters, and then for none');

# ---- holders of slots ----

policy('refuse');
value(q{SELECT eduai.test_clock('10 hours')});
value(q{SELECT eduai.define_tier('wide', 100, NULL, 'concurrency')});
is(value(q{SELECT count(*) FILTER (WHERE eduai.rate_ok('h' || n, 'wide')) || ',' || (SELECT string_agg(DISTINCT bound_by, ',') FROM (SELECT (eduai.rate_limit('g' || m, 'wide')).bound_by FROM generate_series(1, 2) m) x) FROM generate_series(1, 30) n}),
	'16,eduai.rate_slots', 'no more holders than there is room for');
wait_until(sub { value(q{SELECT count(*) FILTER (WHERE held > 0) FROM eduai.rate_status}) == 0 }, 20, 'that session gave them back');
is(value(q{SELECT count(*) FILTER (WHERE eduai.rate_ok('i' || n, 'wide')) FROM generate_series(1, 16) n}), 16, 'and they can be had again');
wait_until(sub { value(q{SELECT count(*) FILTER (WHERE held > 0) FROM eduai.rate_status}) == 0 }, 20, 'that one, too');
is(value(q{SELECT count(*) FILTER (WHERE eduai.rate_ok('j' || n, 'wide')) FROM generate_series(1, 14) n;
SELECT allowed, bound_by FROM eduai.rate_limit_all('{a,b,c}', '{slots,slots,wide}');
SELECT (eduai.rate_peek('a', 'slots')).remaining, (eduai.rate_peek('c', 'wide')).remaining;
SELECT eduai.rate_ok('y', 'wide'), eduai.rate_ok('z', 'wide'), eduai.rate_ok('zz', 'wide')}),
	"14\nf|eduai.rate_slots\n3|100\nt|t|f", 'a hierarchy that finds room for two of three takes none');

$node->stop;
done_testing();
