# A session killed between taking memory and linking its entry; a restart.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use Test::More;

my $node = new_node(conf => { 'eduai.test_mode' => 'on' });

sub ask { return $node->safe_psql('postgres', $_[0]); }

is(ask(q{SELECT eduai.cache_set('before', '1')}), 't', 'a value');
my $free = ask('SELECT free_bytes + used_bytes FROM eduai.cache_memory()');

my $filler = EduaiSession->new($node);
my $pid = $filler->ask('SELECT pg_backend_pid();');
ask(q{SELECT eduai.test_pause('cache-filled', true)});
$filler->send(q{SELECT eduai.cache_set('half', to_jsonb(repeat(md5('x'), 1000)));});
wait_until(sub { ask(q{SELECT eduai.test_paused('cache-filled')}) eq '1' }, 20, 'its memory is filled');

# It holds no lock: others go on.
is(ask(q{SELECT eduai.cache_get('half') IS NULL, eduai.cache_get('before'), eduai.cache_delete('before')}), 't|1|t', 'nobody waits for it');

kill 9, $pid;
is($filler->answer(60), undef, 'it is dead');
wait_until(sub { (try_query($node, 'SELECT 1') // '') eq '1' }, 60, 'the server is back');
is(ask(q{SELECT eduai.cache_get('half') IS NULL, eduai.cache_get('before') IS NULL}), 't|t', 'the cache is empty');
is(ask(q{SELECT entries, used_bytes, free_bytes FROM eduai.cache_memory()}), "0|0|$free", 'and has all its memory');
is(ask(q{SELECT eduai.cache_set('after', '2'), eduai.cache_get('after')}), 't|2', 'and works');

$node->restart;
is(ask(q{SELECT eduai.cache_get('after') IS NULL}), 't', 'a restart empties it');

done_testing();
