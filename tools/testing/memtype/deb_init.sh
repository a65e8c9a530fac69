#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# If anything fails, this ends, the kernel panics, and the last line is missing.

set -eu

usage="usage: deb_init.sh install|show

PID 1 of the Debian that \`make deb-boot\` makes (deb.py): installs the packages, or shows that what
runs is what they have installed."

# Debian is only unpacked so far; this configures it.
install()
{
	/debootstrap/debootstrap --second-stage
	dpkg --install /packages/*.deb
}

show()
{
	release=$(uname -r)
	echo "uname -r: $release"
	dpkg -S "/boot/vmlinuz-$release"
	for module in $modules; do
		modprobe "$module"
		modinfo -n "$module"
	done
	cat /proc/modules
	mount -t debugfs none /sys/kernel/debug
	kvm-memtype --version
	memtype-example
}

modules="iommufd vfio-pci"
[ "$(uname -m)" != x86_64 ] || modules="$modules kvm-amd"

case ${1:-} in
install|show) ;;
-h|--help) echo "$usage"; exit 0 ;;
*)	echo "$usage" >&2; exit 2 ;;
esac

export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C
mount -t proc none /proc
mount -t sysfs none /sys
"$1"
# The host reads the disk, and knows nothing of a journal.
fsfreeze --freeze /
echo "deb_init.sh: done: $1"
echo o > /proc/sysrq-trigger
# Until the machine is off; nobody types anything.
read -r _
