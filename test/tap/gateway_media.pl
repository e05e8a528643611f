# Sound, pictures and webhooks end to end: attachments leave with a call, pictures
# come back as attachments, a service of one's own gets signed tasks.

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256_base64);
use EduaiSession;
use EduaiTest;
use IO::Socket::INET;
use JSON::PP ();
use POSIX ();
use Test::More;

my $node = new_node(conf => { 'eduai.sweep_interval' => '1s', 'eduai.max_upload_size' => '200kB' });
my $sim = start_simulator();
add_fleet($node, $sim, provider => 'speech', model => 'sim-speech', task_types => '{transcription}');
add_fleet($node, $sim, provider => 'painter', model => 'sim-image', task_types => '{image_generation}', max_concurrent => 4);
add_fleet($node, $sim, provider => 'talker', model => 'sim-chat', task_types => '{chat,analysis}', options => { stream => JSON::PP::true });

sub value { return $node->safe_psql('postgres', $_[0]) }

sub attach
{
	my ($bytes, $type) = @_;
	return value("SELECT eduai.attach(decode(repeat('41', $bytes), 'hex'), '$type')");
}

sub enqueue
{
	my ($type, $payload, $more) = @_;
	return value("SELECT eduai.enqueue('$type', '$payload'" . ($more // '') . ')');
}

# [state, result or error's code]
sub ended
{
	my ($id, $what) = @_;
	wait_until(sub { value("SELECT state IN ('completed', 'dead') FROM eduai.get_task($id)") eq 't' }, 30, "task $id ended");
	return value("SELECT state || ' ' || coalesce($what, '-') FROM eduai.get_task($id)");
}

# ---- sound ----

my $sound = attach(5000, 'audio/webm; codecs=opus');
my $id = enqueue('transcription', qq({"audio": {"attachment": "$sound"}, "user": "upload"}));
like(ended($id, "result->>'transcript'"), qr/^completed .*\b5000\b/, 'an attachment is uploaded with its call');
my ($sent) = grep { $_->{endpoint} =~ /transcriptions/ } @{ sim_journal($sim) };
cmp_ok($sent->{body_bytes}, '>', 5000, 'as a form around its bytes');

is(ended(enqueue('transcription', qq({"audio": {"attachment": "@{[attach(250_000, 'audio/wav')]}"}})), "error->>'code'"),
	'dead payload_too_large', 'more than eduai.max_upload_size is not sent');
like(ended(enqueue('transcription', '{"audio": {"url": "http://169.254.169.254/latest/meta-data"}}'), "error->>'code'"),
	qr/^dead bad_payload$/, 'a URL is not fetched');
is(scalar(grep { $_->{endpoint} =~ /transcriptions/ } @{ sim_journal($sim) }), 1, 'neither reached the provider');

# Of another tenant it is not even known at enqueue; here it goes between enqueue and claim.
value("SELECT eduai.pause_queue('transcription')");
$id = enqueue('transcription', qq({"audio": {"attachment": "$sound"}}));
value("DELETE FROM eduai.task_attachment; DELETE FROM eduai.attachment");
value("SELECT eduai.resume_queue('transcription')");
is(ended($id, "error->>'code'"), 'dead bad_payload', 'one that is gone ends its task');

# ---- pictures ----

value(q{CREATE TABLE seen_picture (task_id bigint, content_type text, bytes int);
	CREATE FUNCTION seen(t eduai.task_status) RETURNS void LANGUAGE sql AS $$
	INSERT INTO public.seen_picture SELECT t.task_id, content_type, length(data) FROM eduai.attachment((t.result->'images'->0->>'attachment')::uuid) $$});
$id = enqueue('image_generation', '{"prompt": "a cat", "n": 2}', q{, on_result => 'public.seen', user_id => 'ana'});
is(ended($id, "jsonb_array_length(result->'images')::text"), 'completed 2', 'two pictures');
is(value("SELECT bool_and(i ? 'attachment' AND NOT i ? 'b64_json' AND i->>'content_type' = 'image/png') FROM eduai.get_task($id), jsonb_array_elements(result->'images') i"),
	't', 'are attachments, not base64');
is(value("SELECT count(*), count(*) FILTER (WHERE substr(a.data, 1, 4) = '\\x89504e47' AND a.user_id = 'ana') FROM eduai.get_task($id),
	jsonb_array_elements(result->'images') i, eduai.attachment((i->>'attachment')::uuid) a"), '2|2', 'that can be read, and belong to the learner');
is(value("SELECT content_type, bytes > 0 FROM seen_picture WHERE task_id = $id"), 'image/png|t', 'on_result sees them');

# A handler that has to wait for somebody's lock: nothing of the result is there meanwhile, and then once.
my $holder = EduaiSession->new($node);
$holder->ask('BEGIN; LOCK TABLE seen_picture;');
my $held = enqueue('image_generation', '{"prompt": "a dog"}', ', on_result => \'public.seen\'');
wait_until(sub { sim_stats($sim)->{open} == 0 && grep { $_->{endpoint} =~ /images/ && $_->{outcome} eq 'sent' && $_->{seq} > 2 } @{ sim_journal($sim) } }, 20, 'it was painted');
my $other = enqueue('image_generation', '{"prompt": "a bird"}');
is(ended($other, "jsonb_array_length(result->'images')::text"), 'completed 1', 'others are recorded meanwhile');
is(value("SELECT count(*) FROM eduai.task_attachment WHERE task_id = $held"), 0, 'a result that waits keeps no picture');
$holder->ask('COMMIT;');
is(ended($held, "jsonb_array_length(result->'images')::text"), 'completed 1', 'it is recorded in the end');
is(value("SELECT count(*) FROM eduai.task_attachment WHERE task_id = $held"), 1, 'with its picture');
is(value("SELECT count(*) FROM eduai.attachment a WHERE content_type = 'image/png' AND NOT EXISTS (SELECT FROM eduai.task_attachment l WHERE l.attachment_id = a.attachment_id)"), 0, 'and none is left over');
$holder->quit;

# The next task sends what the first one painted.
my $child = enqueue('chat', '{"messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": "{{parents.0.result.images.0}}"}]}], "user": "child"}',
	", depends_on => '{$id}'");
like(ended($child, "result->>'text'"), qr/^completed /, 'a picture goes into a dependant');
($sent) = grep { $_->{user} eq 'child' } @{ sim_journal($sim) };
my $bytes = value("SELECT length(encode(a.data, 'base64')) FROM eduai.get_task($id), eduai.attachment((result->'images'->0->>'attachment')::uuid) a");
cmp_ok($sent->{body_bytes}, '>', $bytes + 100, 'with its bytes');

is(value("SELECT count(*) FROM eduai.task_attachment WHERE task_id = $id"), 2, 'they are kept by their task');

# ---- analysis ----

sim_default($sim, 'sim-chat', 'text=%7B%22sentiment%22%3A%7B%22label%22%3A%22negative%22%2C%22score%22%3A-0.5%2C%22confidence%22%3A1%7D%7D');
is(ended(enqueue('analysis', '{"text": "I do not get it", "analyses": ["sentiment"]}'), "result->'json'->'sentiment'->>'label'"), 'completed negative', 'an analysis');
sim_default($sim, 'sim-chat', 'text=%7B%22sentiment%22%3A%7B%22label%22%3A%22sad%22%7D%7D');
$id = enqueue('analysis', '{"text": "I do not get it", "analyses": ["sentiment"]}');
is(ended($id, "error->>'code'"), 'dead invalid_answer', 'one that never matches');
is(value("SELECT count(*), bool_and(outcome = 'failed' AND code = 'invalid_answer') FROM eduai.provider_call WHERE task_id = $id"), '2|t', 'is tried twice, and both are in the ledger');

# ---- a webhook ----

my $key = 'hook-secret-0123456789';
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 10, ReuseAddr => 1) or die "listen: $!";
my $port = $listener->sockport;
my ($reader, $writer);
pipe($reader, $writer) or die "pipe: $!";
my $child_pid = fork() // die "fork: $!";
if ($child_pid == 0)
{
	my $count = 0;
	close $reader;
	$SIG{ALRM} = 'DEFAULT';
	alarm 120;
	while (my $client = $listener->accept)
	{
		my ($head, $body) = ('', '');
		$head .= $_ while $head !~ /\r\n\r\n$/ and defined($_ = readline $client);
		my ($length) = $head =~ /^content-length: *(\d+)/mi;
		read $client, $body, $length // 0;
		my %h;
		$h{ lc $1 } = $2 while $head =~ /^([^:\r\n]+): ([^\r\n]*)/mg;
		my $message = eval { JSON::PP::decode_json($body) } // {};
		my $expected = hmac_sha256_base64("$h{'webhook-id'}.$h{'webhook-timestamp'}.$body", $key);
		$expected .= '=' while length($expected) % 4;
		my $good = ($h{'webhook-signature'} // '') eq "v1,$expected" && abs(time() - $h{'webhook-timestamp'}) < 60;
		my %answer = (text => "graded $message->{payload}{essay}", json => { grade => 5 }, cost_usd => JSON::PP::decode_json('[0.0125]')->[0], usage => { input => 10, output => 2 });
		my ($status, $reply) = $good ? (200, JSON::PP::encode_json(\%answer)) : (401, '{"error": "bad signature"}');
		($status, $reply) = (503, '{"error": "warming up"}') if ++$count == 1;
		syswrite $writer, JSON::PP::encode_json({ id => $h{'webhook-id'}, key => $h{'idempotency-key'}, auth => $h{authorization}, path => (split / /, $head)[1], good => $good ? 1 : 0, message => $message }) . "\n";
		print $client "HTTP/1.1 $status X\r\nContent-Type: application/json\r\nContent-Length: " . length($reply) . "\r\nConnection: close\r\n\r\n$reply";
		close $client;
	}
	POSIX::_exit(0);
}
close $listener;
close $writer;
END { if ($child_pid) { local $?; kill 'TERM', $child_pid; waitpid $child_pid, 0; } }

value("SELECT eduai.define_task_type('grading', 'gateway', 'analysis')");
value(qq{SELECT eduai.add_provider('grader', 'openai', 'http://127.0.0.1:$port/hooks/grade', '$key', '{"allow_loopback": true, "webhook": true}')});
value(q{SELECT eduai.add_instance('grader', 'grader', 'grader-1', '{grading}')});
$id = enqueue('grading', '{"essay": "one"}', q{, metadata => '{"class": "7b"}', user_id => 'ana'});
is(ended($id, "result->>'text'"), 'completed graded one', 'a webhook answers, after an outage');
is(value("SELECT result->'json'->>'grade', result->>'finish_reason', result->>'model', result->'usage'->>'input', cost_usd FROM eduai.get_task($id)"), '5|stop|grader-1|10|0.0125', 'with a whole result and its cost');
my @calls = map { JSON::PP::decode_json(scalar readline $reader) } 1 .. 2;
is_deeply([ map { $_->{good} } @calls ], [ 1, 1 ], 'both calls were signed with the key');
is($calls[0]{auth}, undef, 'which is not sent');
is($calls[0]{path}, '/hooks/grade', 'to the path of the base URL');
is($calls[1]{message}{attempt}, 2, 'the attempt is told');
like($calls[0]{id}, qr/^eduai-[\d-]+-1$/, 'and named');
is($calls[0]{id} =~ s/-1$/-2/r, $calls[1]{id}, 'each attempt is a message of its own');
is("$calls[0]{key}-1", $calls[0]{id}, 'of one task');
is($calls[0]{key}, $calls[1]{key}, 'whose name stays');
is_deeply([ @{ $calls[1]{message} }{qw(id type user_id tenant)}, $calls[1]{message}{metadata}{class} ], [ $id, 'grading', 'ana', 'default', '7b' ], 'and it is the task as it is');
value(qq{SELECT eduai.add_provider('grader', 'openai', 'http://127.0.0.1:$port/hooks/grade', 'another-secret-0123', '{"allow_loopback": true, "webhook": true}')});
is(ended(enqueue('grading', '{"essay": "two"}'), "error->>'code'"), 'dead auth', 'another key is refused there');

done_testing();
