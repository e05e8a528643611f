#!/usr/bin/perl
# prove.pl JOBS LIBRARY... FILE.pl...: prove with a total that can be counted;
# the files that take longest first, so that none of them is left over at the end.
# A file that broke off without a failed test counts as one failure. Ends with
# a "FAILED FILE:" line for each such or failed file and "N passed, N failed".

use strict;
use warnings;
use TAP::Harness;

# A server that does not start makes a test bail out: that file fails, and the
# others still have something to say.
package Harness;
our @ISA = ('TAP::Harness');
sub _bailout { }

package main;

my $jobs = shift;
my @files = grep { /\.pl$/ } @ARGV;
my @libraries = grep { !/\.pl$/ } @ARGV;

# longest first; the rest take less than 20 s
my @long = qw(projections_follow gateway_crash gateway_pools events_crash gateway_health events_projector
  core_many_locks gateway_breaker events_dump_all events_dump_compaction queue_claimers projections_parked
  gateway_rotation core_launcher events_standby projections_rebuild privacy_erasure queue_examples
  gateway_failover gateway_budget events_upgrade gateway_idle queue_clock gateway_wall_network);
my %rank = map { $long[$_] => @long - $_ } 0 .. $#long;
sub rank { my ($name) = $_[0] =~ m{([^/]+)\.pl$}; return $rank{$name} // 0 }
@files = sort { rank($b) <=> rank($a) } @files;

my $harness = Harness->new({
	jobs => $jobs, lib => \@libraries, timer => 1, verbosity => 0, failures => 1,
	color => 0, merge => 0
});
my $result = $harness->runtests(@files);

my ($passed, $failed) = (0, 0);
for my $file (@files)
{
	my ($parser) = $result->parsers($file);
	my $bad = $parser->failed;
	$bad = 1 if !$bad && ($parser->parse_errors || $parser->exit || $parser->wait);
	$passed += $parser->passed;
	$failed += $bad;
	print "FAILED FILE: $file\n" if $bad;
}
print "$passed passed, $failed failed\n";
exit($failed ? 1 : 0);
