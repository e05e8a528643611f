# shellcheck shell=bash
# A Debian in a folder, for test-fresh.sh and test-version.sh: sourced after
# lib.sh. Needs root and debootstrap. Mounts and processes live in namespaces of
# their own and end with them.
#
# Limits: the kernel, the network and the clock are the machine's. MIRROR names
# a Debian mirror where apt has none configured.

BASES=${FRESH_BASE:-/var/tmp/eduai-fresh-base}

need_chroot()
{
	[ "$(id -u)" = 0 ] || die "needs root, for chroot and debootstrap"
	"$ROOT/scripts/setup.sh" fresh
}

# The mirror that this machine's apt uses for Debian.
mirror()
{
	local found
	# shellcheck disable=SC2016 # apt's own placeholders
	found=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null | sed -n 's/^Debian //p' | head -1)
	found=${MIRROR:-$found}
	[ -n "$found" ] || die "apt has no Debian mirror configured; set MIRROR"
	echo "$found"
}

# make_base SUITE: debootstrap once into BASES/SUITE, with git and make alone.
make_base()
{
	local suite=$1 base=$BASES/$1 script=$1
	[ -d "$base" ] && return
	say "debootstrap $suite into $base"
	mkdir -p "$BASES"
	rm -rf "$base.partial"
	# A suite newer than debootstrap itself is installed like unstable.
	[ -e "/usr/share/debootstrap/scripts/$suite" ] || script=sid
	debootstrap --variant=minbase --include=git,make,ca-certificates "$suite" "$base.partial" "$(mirror)" "$script" \
		>"$BASES/$suite.log" 2>&1 || { tail -20 "$BASES/$suite.log" >&2; die "debootstrap $suite failed"; }
	mv "$base.partial" "$base"
}

# apt inside goes where apt outside goes: its names, proxies and allowances.
share_network()
{
	local root=$1 file
	for file in /etc/hosts /etc/resolv.conf; do
		[ -f "$file" ] && cat "$file" >"$root$file"
	done
	apt-config dump | grep -E '^Acquire::(http|https|ftp|Check-|Retries|AllowInsecure)' >"$root/etc/apt/apt.conf.d/90machine" || true
}

# enter ROOT COMMAND...: as root inside, in /srv/eduai, with no terminal. What
# is still running when the command ends is killed.
enter()
{
	local root=$1
	shift
	# shellcheck disable=SC2016 # expanded inside
	unshare --mount --propagation private --pid --fork --kill-child bash -ec '
		root=$1
		shift
		mount -t proc proc "$root/proc"
		mount --rbind /sys "$root/sys"
		mount --rbind /dev "$root/dev"
		mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
		chroot "$root" env -i HOME=/root USER=root LANG=C.UTF-8 TERM=dumb \
			PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
			${CI:+CI="$CI"} ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
			bash -c "cd /srv/eduai && \"\$@\"" inside "$@"
	' enter "$root" "$@" </dev/null
}

# copy_checkout ROOT: the working tree as git would see it added, uncommitted
# changes included, with nothing that was built.
copy_checkout()
{
	rm -rf "$1/srv/eduai"
	mkdir -p "$1/srv/eduai"
	(cd "$ROOT" && git ls-files -z --cached --others --exclude-standard | while IFS= read -rd '' file; do
		[ -e "$file" ] && printf '%s\0' "$file"
	done | tar --null -T - -cf -) | tar -C "$1/srv/eduai" --no-same-owner -xf -
}
