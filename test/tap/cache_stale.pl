
# The search for stale values (test/soak/cache.c), for a while: sessions that
# write, read and cache at random, with pauses inside commits and ended sessions.

use strict;
use warnings;

use EduaiTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(conf => { 'eduai.test_mode' => 'on', max_connections => 40, max_prepared_transactions => 20, max_pred_locks_per_transaction => 1024, log_min_messages => 'fatal' });
my $soak = "$ENV{TESTDIR}/test/soak";
my $bin = "$PostgreSQL::Test::Utils::tmp_check/stale_check";
my @flags = map { chomp(my $dir = `$ENV{PG_CONFIG} --$_`); $dir } 'includedir', 'libdir';
system('gcc', '-O1', '-pthread', "-I$flags[0]", '-o', $bin, (map { "$soak/$_.c" } 'cache', 'cache_work', 'cache_aside'), "-L$flags[1]", '-lpq') == 0
	or BAIL_OUT('the checker does not compile');

local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres', SOAK_SECONDS => 7, SEED => test_seed());
my ($out, $err);
my $done = IPC::Run::run([$bin], '>', \$out, '2>', \$err);
ok($done, 'nothing stale') or diag($err);
diag($out);
my ($reads, $hits, $stale, $writes, $ended, $pauses) = $out =~ /: (\d+) checked reads, (\d+) hits .* (\d+) stale; \d+ transactions, (\d+) writes, \d+ prepared, (\d+) sessions ended, \d+ killed, (\d+) pauses/;
cmp_ok($reads, '>', 5000, 'it read');
cmp_ok($hits, '>', $reads / 2, 'most reads were hits');
cmp_ok($writes, '>', 100, 'it wrote');
cmp_ok($pauses, '>', 20, 'commits were held in their midst');

done_testing();
