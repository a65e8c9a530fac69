#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only

set -eu

usage="usage: setup.sh [matrix] [test] [vmm] [qemu] [deb] [ci-jobs]

Prints what a make target needs, and installs the Debian packages that are missing, with sudo if it
is not root. It says the command before it runs it. The make targets call it."

# Each line is a package and the command that stands for it where there is no apt.
packages="
gcc			gcc
libc6-dev		-
make			make
git			git
python3			python3
bison			bison
flex			flex
bc			bc
perl			perl
libelf-dev		-
libssl-dev		-
xz-utils		xz
ccache			ccache
busybox-static		busybox
"
# What the architectures need besides.
packages="$packages
$(sed -n '/^\[.*\.packages\]$/,/^$/{s/^\(.*\) = ""$/\1 -/p;s/^\(.*\) = "\(.*\)"$/\1 \2/p;}' \
	"$(dirname "$0")/architectures.toml")"
# The source of the default base is installed, that of another base only downloaded (debian.py).
default=$(sed -n '/^\["/{s/\["\(.*\)"\]/\1/p;q;}' "$(dirname "$0")/bases.toml")
[ -n "${KSRC:-}" ] || [ "${BASE:-$default}" != "$default" ] ||
	packages="linux-source-$default - $packages"
# Jobs for other CI systems are only written; nothing is built.
[ "$*" != ci-jobs ] || packages="python3 python3"
minutes=0
disk=6
for what; do
	case $what in
	matrix)	minutes=$((minutes + 50)) ;;
	test)	minutes=$((minutes + 10))
		packages="$packages
sparse			sparse
mypy			mypy
flake8			flake8
shellcheck		shellcheck
wget			wget
python3-docutils	rst2html
libgraph-easy-perl	graph-easy
libgraph-easy-as-svg-perl -
python3-sphinx		sphinx-build
python3-git		-
python3-jsonschema	jsonschema
python3-yaml		-
python3-ply		-
lava-common		-
" ;;
	vmm)	minutes=$((minutes + 20))
		disk=9
		packages="$packages
debootstrap		debootstrap
" ;;
	deb)	minutes=$((minutes + 90))
		packages="$packages
debhelper		dh_builddeb
debootstrap		debootstrap
dpkg-dev		dpkg-buildpackage
e2fsprogs		-
kmod			-
python3-docutils	rst2man
fakeroot		fakeroot
openssl			openssl
rsync			rsync
cpio			cpio
" ;;
	qemu)	minutes=$((minutes + 30))
		packages="$packages
ninja-build		ninja
pkg-config		pkg-config
python3-venv		-
" ;;
	ci-jobs)
		packages="$packages
python3-yaml		-
" ;;
	-h|--help) echo "$usage"; exit 0 ;;
	*)	echo "$usage" >&2; exit 2 ;;
	esac
done

if [ "$minutes" != 0 ] && [ "$(uname -m)" != x86_64 ]; then
	echo "error: the toolchain set-up is for x86_64 machines; this is $(uname -m)" >&2
	exit 1
fi

# shellcheck disable=SC2086
set -- $packages
names=""; absent=""; no_tool=""
while [ $# -gt 0 ]; do
	names="$names $1"
	state=$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null || true)
	[ "$state" = installed ] || absent="$absent $1"
	[ "$2" = - ] || command -v "$2" >/dev/null || no_tool="$no_tool $2"
	shift 2
done

echo "needs the packages:$names" | fold -s -w 100
if [ "$minutes" != 0 ]; then
	echo "needs about $disk GB of disk under ${BUILD:-build}"
	echo "takes up to about $minutes minutes on 2 slow cores the first time"
fi

# Ubuntu and others have apt too, but no such packages.
if ! command -v apt-get >/dev/null || ! grep -qx "ID=debian" /etc/os-release; then
	[ -z "$no_tool" ] && exit 0
	echo "error: this is not Debian, so install these tools yourself:$no_tool" >&2
	exit 1
fi
[ -n "$absent" ] || exit 0

sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo "
update="apt-get update -q"
install="apt-get install -y --no-install-recommends$absent"
if [ -n "$sudo" ] && ! command -v sudo >/dev/null; then
	echo "error: packages are missing and there is no sudo; as root, run:" >&2
	echo "  $update" >&2
	echo "  $install" >&2
	exit 1
fi
install="env DEBIAN_FRONTEND=noninteractive $install"
echo "packages are missing; these commands install them:"
for command in "$sudo$update" "$sudo$install"; do
	echo "  $command"
done
for command in "$sudo$update" "$sudo$install"; do
	$command
done
