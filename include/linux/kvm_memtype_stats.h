/* SPDX-License-Identifier: GPL-2.0-only */
/* What each vCPU counts of guest memory types; for <linux/kvm_types.h>. */
#ifndef _LINUX_KVM_MEMTYPE_STATS_H
#define _LINUX_KVM_MEMTYPE_STATS_H

#ifdef CONFIG_KVM_MEMTYPE
/* Members of struct kvm_vcpu_stat_generic: leaf entries encoded, and faults refused. */
#define KVM_MEMTYPE_STATS						       \
	struct {							       \
		u64 memtype_wb;						       \
		u64 memtype_forced_wb;					       \
		u64 memtype_wc;		/* and x86 WT, WP */		       \
		u64 memtype_uc;						       \
		u64 memtype_refused;					       \
	}

#define KVM_MEMTYPE_STAT(name)	STATS_DESC_COUNTER(VCPU_GENERIC, name),
#else
#define KVM_MEMTYPE_STATS	struct {}
#define KVM_MEMTYPE_STAT(...)
#endif

#endif /* _LINUX_KVM_MEMTYPE_STATS_H */
