#!/usr/bin/perl
# Reads schema.sql and functions.sql as statements and says what breaks a rule:
# - a function or procedure in functions.sql is CREATE OR REPLACE and has a
#   COMMENT in the same file; a view likewise is CREATE OR REPLACE;
# - a SECURITY DEFINER function pins search_path;
# - state (tables, types, indexes, sequences) is created in schema.sql only,
#   functions and procedures in functions.sql only.

use strict;
use warnings;

my $bad = 0;

sub fault
{
	my ($file, $line, $text) = @_;
	print "$file:$line: $text\n";
	$bad = 1;
}

# Splits at semicolons outside quotes, dollar quotes and comments; returns
# [line, statement with comments and bodies blanked] pairs.
sub statements
{
	my ($text) = @_;
	my ($line, $start, $out, @found) = (1, 1, '');
	while ($text =~ /\G(--[^\n]*|\/\*.*?\*\/|'(?:[^']|'')*'|"(?:[^"]|"")*"|(\$\w*\$).*?\2|;|\s+|[^\s;'"\$\/-]+|.)/gs)
	{
		my ($token, $dollar) = ($1, $2);
		my $newlines = ($token =~ tr/\n//);
		if ($token eq ';')
		{
			push @found, [ $start, $out ] if $out =~ /\S/;
			$out = '';
		}
		elsif ($token =~ /^(?:--|\/\*)/) { $out .= ' ' }
		else
		{
			$start = $line if $out !~ /\S/;
			$out .= defined $dollar ? " '' " : $token =~ /^\s+$/ ? ' ' : $token;
		}
		$line += $newlines;
	}
	push @found, [ $start, $out ] if $out =~ /\S/;
	return @found;
}

for my $file (@ARGV)
{
	next unless -f $file;
	open my $handle, '<', $file or die "$file: $!";
	my $text = do { local $/; <$handle> };
	my $functions_file = $file =~ /functions\.sql$/;
	my (%created, %commented);

	for (statements($text))
	{
		my ($line, $statement) = @$_;
		$statement =~ s/^\s+//;
		if ($statement =~ /^CREATE\s+(OR\s+REPLACE\s+)?(?:FUNCTION|PROCEDURE)\s+([\w."]+)/i)
		{
			my ($replace, $name) = ($1, lc $2);
			$created{$name} //= $line;
			fault($file, $line, "$name is defined outside functions.sql") unless $functions_file;
			fault($file, $line, "$name is not CREATE OR REPLACE") unless $replace;
			fault($file, $line, "$name is SECURITY DEFINER without SET search_path")
			  if $statement =~ /\bSECURITY\s+DEFINER\b/i && $statement !~ /\bSET\s+search_path\b/i;
		}
		elsif ($statement =~ /^CREATE\s+VIEW\b/i && $functions_file)
		{
			fault($file, $line, "a view that is not CREATE OR REPLACE");
		}
		elsif ($functions_file && $statement =~ /^CREATE\s+(?:UNLOGGED\s+|UNIQUE\s+)?(TABLE|TYPE|INDEX|SEQUENCE)\b/i)
		{
			fault($file, $line, "\U$1\E is state and belongs in schema.sql");
		}
		elsif ($statement =~ /^COMMENT\s+ON\s+(?:FUNCTION|PROCEDURE|ROUTINE)\s+([\w."]+)/i)
		{
			$commented{ lc $1 } = 1;
		}
	}
	next unless $functions_file;
	for my $name (sort { $created{$a} <=> $created{$b} } keys %created)
	{
		fault($file, $created{$name}, "$name has no COMMENT ON FUNCTION in this file") unless $commented{$name};
	}
}
exit $bad;
