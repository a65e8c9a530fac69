#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs our selftests on this machine, from a tarball of make selftests-tar. hardware.py does it;
# --help says how.

top=$(dirname "$0")
script=$top/tools/testing/memtype/hardware.py
# Where it is not in a tarball, it only says how to use it.
[ -e "$script" ] || script=$top/hardware.py
if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
	echo "run.sh: python3 is missing or older than 3.11" >&2
	exit 2
fi
exec python3 -B "$script" "$@"
