# shellcheck shell=bash
# For demo.sh, after place.sh: how things are shown. Plain text in 80 columns;
# colour, and a line that is rewritten while something is under way, only where
# a person watches.

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
	LIVE=yes
	BOLD=$'\e[1m' CYAN=$'\e[36m' GREEN=$'\e[32m' RED=$'\e[31m' PLAIN=$'\e[0m'
else
	LIVE=
	BOLD='' CYAN='' GREEN='' RED='' PLAIN=''
fi

STEP=0
step()
{
	STEP=$((STEP + 1))
	printf '\n%s%d. %s%s\n' "$BOLD" "$STEP" "$*" "$PLAIN"
	printf '%.0s-' {1..78}
	printf '\n'
}

# A paragraph.
tell() { fold -s -w 78 <<<"$*" | sed 's/ *$//'; }

good() { printf '%s  ok: %s%s\n' "$GREEN" "$*" "$PLAIN"; }

# What is not as it should be: shown, and the demo fails at its end.
FAULTS=0
bad()
{
	printf '%s  NOT AS IT SHOULD BE: %s%s\n' "$RED" "$*" "$PLAIN"
	FAULTS=$((FAULTS + 1))
}

# check WHAT SEEN WANTED
check()
{
	if [ "$2" = "$3" ]; then good "$1: $2"; else bad "$1: $2, expected $3"; fi
}

# One line that changes; without a terminal, a line each time.
progress()
{
	if [ -n "$LIVE" ]; then printf '\r\e[K  %s' "$*"; else printf '  %s\n' "$*"; fi
}

progress_end() { [ -z "$LIVE" ] || printf '\n'; }
progress_clear() { [ -z "$LIVE" ] || printf '\r\e[K'; }

# ---- SQL ----

# sql ROLE [PSQL_OPTION ...]: the statements on standard input, bare answers.
sql()
{
	local role=$1
	shift
	psql -XAtq -v ON_ERROR_STOP=1 -U "$role" "$@" 9>&-
}

# table ROLE [PSQL_OPTION ...]: the same for people to read.
table()
{
	local role=$1
	shift
	psql -Xq -v ON_ERROR_STOP=1 -P footer=off -P null=- -U "$role" "$@" 9>&- | sed 's/^/  /; s/ *$//'
}

# show_and_run FILE: an application's statements, first shown, then run as it.
show_and_run()
{
	show <"$1"
	sql school -f "$1" >/dev/null
}

show()
{
	sed "s/.*/  $CYAN&$PLAIN/"
	echo
}

# grouped NUMBER: 12345 as 12,345.
grouped() { sed -E ':a; s/^([0-9]+)([0-9]{3})/\1,\2/; ta' <<<"$1"; }
