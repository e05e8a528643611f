# Seals: what was sealed opens under the same master key for the same context and
# never otherwise, and a master key file that others could read is not used.

use strict;
use warnings;

use EduaiSession;
use EduaiTest;
use File::Copy qw(copy);
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node(conf => { 'eduai.test_mode' => 'on' });
my $file = master_key_file($node);
my $session = EduaiSession->new($node);

sub ask { return $session->ask($_[0]) }
sub seal { return ask("SELECT eduai.test_seal('$_[0]', '$_[1]');") }
sub unseal { return ask("SELECT eduai.test_unseal('$_[0]', '$_[1]');") }

# ---- sealing and opening ----

my $long = '\\x' . ('00ff5c27' x 20000);
my %sealed = map { $_ => seal($_, 'one') } ('\\x', '\\x00', '\\x736563726574', $long);
is(unseal($sealed{$_}, 'one'), $_, 'what was sealed opens: ' . substr($_, 0, 20)) for sort keys %sealed;
my $secret = '\\x736563726574';
my $first = $sealed{$secret};
like($first, qr/^\\x0104(?:74657374)[0-9a-f]{24}[0-9a-f]{12}[0-9a-f]{32}$/, 'version, id, nonce, ciphertext, tag');
unlike($sealed{$long}, qr/00ff5c27/, 'nothing of it shows');
isnt(seal($secret, 'one'), $first, 'twice the same is not the same');
my %nonce = map { substr($_, 14, 24) => 1 }
  split /\n/, ask("SELECT eduai.test_seal('x', 'one') FROM generate_series(1, 2000);");
is(scalar keys %nonce, 2000, 'every nonce is its own');

# ---- what does not open ----

my $foreign = qr/ERROR:  22000: cannot open it: it was altered, or sealed for something else/;
like(unseal($first, 'two'), $foreign, 'for another context');
like(unseal($first, 'one '), $foreign, 'for one that is longer');
my $opened = 0;
my $bits = (length($first) - 2) * 4;
for my $bit (0 .. $bits - 1)
{
	my $bytes = pack 'H*', substr $first, 2;
	vec($bytes, $bit, 1) ^= 1;
	$opened++ unless unseal('\\x' . unpack('H*', $bytes), 'one') =~ /ERROR:  22000: cannot open it: /;
}
is($opened, 0, "with any one of its $bits bits changed");
like(unseal(substr($first, 0, $_), 'one'), qr/ERROR:  22000: /, "cut to $_ digits") for 2, 4, 14, 38, length($first) - 2;
like(unseal("${first}00", 'one'), $foreign, 'with a byte more');

# ---- rotation ----

write_master_key($node, 'next', 'test');
is(unseal($first, 'one'), $secret, 'an older key still opens');
my $second = seal($secret, 'one');
like($second, qr/^\\x01046e657874/, 'the first key of the file seals');
write_master_key($node, 'next');
like(unseal($first, 'one'), qr/the master key that sealed it is not in the master key file/, 'a key that is gone opens nothing');
is(unseal($second, 'one'), $secret, 'what is sealed under the one that is left does');
# In place, of the same length and within a tick of the clock: no change is missed.
write_master_key($node, 'test');
my %content = (test => slurp_file($file));
write_master_key($node, 'next');
$content{next} = slurp_file($file);
my $missed = 0;
for my $n (1 .. 100)
{
	my $id = $n % 2 ? 'test' : 'next';
	open my $out, '+<', $file or die;
	print $out $content{$id};
	close $out;
	$missed++ if ask("SELECT convert_from(substring(eduai.test_seal('x', 'c') from 3 for 4), 'UTF8');") ne $id;
}
is($missed, 0, 'a file that is written in place is read at once, 100 times');
# Another key under the same name is another key.
write_master_key($node, 'test');
my $good = slurp_file($file);
my $sealed = seal($secret, 'one');
sub put
{
	my ($content, $mode) = @_;
	unlink $file;
	open my $out, '>', $file or die;
	print $out $content;
	close $out;
	chmod $mode // 0600, $file or die;
}
put('test ' . encode_base64('x' x 32, '') . "\n");
like(unseal($sealed, 'one'), $foreign, 'another key of the same id does not open');

# ---- files that are refused ----

sub refused
{
	my ($reason, $what) = @_;
	my $answer = seal($secret, 'one');
	like($answer, qr/ERROR:  55000: cannot seal a secret without a usable master key\nDETAIL:  The reason: $reason/, "refused: $what");
	my ($key) = $good =~ / (\S+)/;
	unlike($answer, qr/\Q$key\E|\Q$file\E/, "$what: neither path nor content");
	like(unseal($sealed, 'one'), qr/ERROR:  22000: cannot open it: $reason/, "nor opened with: $what");
}
sub accepted
{
	my ($what) = @_;
	is(unseal(seal($secret, 'one'), 'one'), $secret, "accepted: $what");
}
my ($key) = $good =~ / (\S+)/;
put($good, 0640);
refused('the master key file is open to its group or to others', 'readable by the group');
put($good, 0604);
refused('the master key file is open to its group or to others', 'readable by others');
put($good, 0620);
refused('the master key file is open to its group or to others', 'writable by the group');
put($good, 0400);
accepted('mode 0400');
chmod 0644, $file;
refused('the master key file is open to its group or to others', 'opened to others after it was read');
put("test\n");
refused('line 1 of the master key file is not "ID BASE64"', 'no key');
put("# comment\n\n$good" . "x y z\n");
refused('line 4 of the master key file is not "ID BASE64"', 'three words');
put("test AAAA\n");
refused('line 1 of the master key file has no key of 32 bytes in base64', 'a short key');
put('test ' . encode_base64('x' x 33, '') . "\n");
refused('line 1 of the master key file has no key of 32 bytes in base64', 'a key of 33 bytes');
put('test ' . ('!' x 44) . "\n");
refused('line 1 of the master key file has no key of 32 bytes in base64', 'no base64');
put("a/b $key\n");
refused('line 1 of the master key file is not "ID BASE64"', 'an id with a slash');
put(('i' x 33) . " $key\n");
refused('line 1 of the master key file is not "ID BASE64"', 'a long id');
put("$good$good");
refused('line 2 of the master key file repeats an id', 'an id twice');
put(join '', map { "k$_ $key\n" } 1 .. 17);
refused('line 17 of the master key file is one key too many', '17 keys');
put("");
refused('the master key file has no key', 'an empty file');
put("\n# nothing\n");
refused('the master key file has no key', 'only a comment');
put("$good\0");
refused('the master key file has a zero byte', 'a zero byte');
put($good . ('#' x 9000));
refused('the master key file is longer than', 'a long file');
unlink $file;
refused('the master key file could not be read: No such file or directory', 'no file');
mkdir $file;
refused('the master key file is not a regular file', 'a directory');
rmdir $file;
system('mkfifo', $file) == 0 or die;
refused('the master key file is not a regular file', 'a FIFO');
unlink $file;
put("# a comment\r\n\r\n  test\t$key \r\n");
accepted('comments, blank lines, other blanks and line ends');

# In the data directory, by whatever name.
my $data = $node->data_dir;
unlink $file;
open my $out, '>', "$data/base/inside" or die;
print $out $good;
close $out;
chmod 0600, "$data/base/inside";
symlink "$data/base/inside", $file or die;
refused('the master key file is in the data directory', 'a link into the data directory');
unlink $file;
put($good);
accepted('the same file outside');

sub set_path
{
	my ($path) = @_;
	$session->ask("ALTER SYSTEM SET eduai.master_key_file = '$path';");
	$node->reload;
	wait_until(sub { ask('SHOW eduai.master_key_file;') eq $path }, 10, "the path is $path");
}
set_path("$data/base/../base/inside");
refused('the master key file is in the data directory', 'the data directory itself');
# A link outside to one that is outside.
symlink $file, "$file.link" or die;
set_path("$file.link");
accepted('a link');
unlink "$file.link";
# (a file of another user needs another user: root's own, mode 0600, is not to be read)
set_path('/etc/shadow');
refused('the master key file (?:could not be read|belongs neither|is open)', 'a file that is not the server\'s');
like(ask("SELECT code || ' ' || detail FROM eduai.health_problems() WHERE code LIKE 'master%';"),
	qr/^master_key_unusable Nothing can be sealed or opened: the master key file/, 'health() says so');
unlike(ask('SELECT eduai.health();'), qr/shadow/, 'without the path');
like(ask("ALTER SYSTEM SET eduai.master_key_file = 'relative/key';"), qr/ERROR:  22023: /, 'a relative path is no value');
is(ask("SET ROLE eduai_admin; SELECT count(*) FROM pg_settings WHERE name = 'eduai.master_key_file' AND setting <> ''; RESET ROLE;"), '0',
	'who is no superuser does not see the path');
set_path('');
refused('neither eduai.master_key_file nor eduai.master_key_command is set', 'no path');
is(ask("SELECT count(*) FROM eduai.health_problems() WHERE code LIKE 'master%';"), '0', 'which is no problem of itself');

$session->quit;
$node->stop;
done_testing();
