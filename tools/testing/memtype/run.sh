#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only

usage="usage: run.sh

Runs our selftests on real hardware, from a tarball of make selftests-tar: each line of the file
\"tests\" is a program and its arguments. Prints the KTAP of each.

Exit status: 0 no program failed, 1 one did, 4 none could run."

case "${1:-}" in
'')		;;
-h|--help)	echo "$usage"; exit 0 ;;
*)		echo "$usage" >&2; exit 2 ;;
esac
cd "$(dirname "$0")" || exit 1
passed=0 failed=0 skipped=0

while read -r program arguments; do
	echo "# run: $program $arguments"
	# shellcheck disable=SC2086
	"./$program" $arguments </dev/null
	status=$?
	echo "# exit status $status: $program"
	case $status in
	0) passed=$((passed + 1)) ;;
	4) skipped=$((skipped + 1)) ;;
	*) failed=$((failed + 1)) ;;
	esac
done <tests

echo "# programs: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] || exit 1
[ "$passed" != 0 ] || exit 4
