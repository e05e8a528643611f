#!/bin/sh
# eduai.key_store_command: learners' keys in a directory, a file for each. It is
# what a script for a KMS has to do; put the service's calls in place of the files
# (docs/privacy-keys.md).
#
#   eduai.key_store_command = '/usr/local/lib/eduai/key_store.sh /mnt/keys'
#
# Every path out of it that is not a success ends with a status other than 0:
# what is not known to be so is never said.
set -eu
umask 077

directory=$1
operation=$2
file=$directory/$3
case $3 in
*[!0-9a-z]*) exit 2 ;;
esac
# a directory that is not there, not mounted, has no answer
test -d "$directory/."

# keep COMMAND: what is read becomes a file, whole, on disk, by ln or mv
keep()
{
	new=$(mktemp "$directory/new.XXXXXXXX")
	trap 'rm -f "$new"' EXIT
	cat >"$new"
	sync "$new"
	"$@" "$new" "$file"
	sync "$directory"
}

link_unless_there()
{
	ln "$1" "$2" 2>/dev/null || test -e "$2"
}

case $operation in
get) if test -e "$file"; then cat "$file"; else echo none; fi ;;
put) keep link_unless_there ;;
replace) keep mv -f ;;
destroy)
	if test -e "$file"; then
		# in place, before the name goes: nothing is left to be read on a disk that allows it
		shred -n 1 "$file"
		rm -f "$file"
		sync "$directory"
	fi
	;;
*) exit 2 ;;
esac
