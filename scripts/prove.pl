#!/usr/bin/perl
# prove.pl JOBS LIBRARY... FILE.pl...: prove with a total that can be counted.
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
