#!/usr/bin/env bash
# docs/settings.md has every setting that the sources define, and only those,
# each with who may change it.
# shellcheck disable=SC2016 # of perl, and of markdown
set -euo pipefail
cd "$1"
defined()
{
	find src -name '*.c' -print0 | sort -z | xargs -0 perl -0777 -ne '
		my %context = (PGC_POSTMASTER => "restart", PGC_SIGHUP => "reload", PGC_SUSET => "superuser", PGC_USERSET => "anyone",
			start_only => "restart");
		for (/DefineCustom\w+Variable\(\s*(".*?)\);/sg) {
			my ($name) = /^"([^"]+)"/;
			my ($context) = /\b(PGC_\w+|start_only)/;
			print "$name $context{$context}", /GUC_SUPERUSER_ONLY/ ? ", superuser" : "", "\n";
		}' | sort
}
documented() { sed -nE 's/^\| `(eduai\.[a-z0-9_]+)` \| [^|]* \| ([^|]*) \|.*/\1 \2/p' docs/settings.md | sort; }
wrong=$(diff <(defined) <(documented) | sed -n 's/^< \(.*\)/defined, but not in docs\/settings.md: \1/p; s/^> \(.*\)/in docs\/settings.md, but not defined: \1/p' || true)
[ -z "$wrong" ] || { echo "$wrong"; exit 1; }
