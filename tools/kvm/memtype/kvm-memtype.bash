# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Completion of kvm-memtype's arguments in bash: options, the processes that have VMs, and files.

_kvm_memtype()
{
	local word=${COMP_WORDS[COMP_CWORD]} pids

	if [[ $word == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "--json --svg --watch --help --version" -- "$word")
		return
	fi
	# debugfs is for root alone, as the tool is.
	pids=$(cd /sys/kernel/debug/kvm 2>/dev/null && printf '%s\n' [0-9]*-[0-9]* | cut -d - -f 1 | sort -u)
	mapfile -t COMPREPLY < <(compgen -W "$pids" -- "$word"; compgen -f -- "$word")
}

complete -F _kvm_memtype kvm-memtype
