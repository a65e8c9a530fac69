/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_MEMTYPE_H
#define __KVM_X86_MEMTYPE_H

#include <linux/kvm_host.h>
#include <linux/kvm_memtype.h>

#include "mmu.h"

/* The layer tells userspace what make_spte() decides by; without it nobody else asks. */
#ifdef CONFIG_KVM_MEMTYPE
#define VISIBLE_IF_KVM_MEMTYPE
bool kvm_is_mmio_pfn(kvm_pfn_t pfn);
u64 kvm_memtype_spte(struct kvm_vcpu *vcpu, const struct kvm_memory_slot *slot, gfn_t gfn,
		     kvm_pfn_t pfn);
int kvm_memtype_special_level(int level, unsigned long pfn, unsigned long hva);
#else
#define VISIBLE_IF_KVM_MEMTYPE static

/* A macro, because only spte.c has kvm_is_mmio_pfn(). */
#define kvm_memtype_spte(vcpu, slot, gfn, pfn) \
	((void)(slot), kvm_x86_call(get_mt_mask)(vcpu, gfn, kvm_is_mmio_pfn(pfn)))

static inline int kvm_memtype_special_level(int level, unsigned long pfn, unsigned long hva)
{
	return level;
}

static inline bool kvm_memtype_dma_changed(struct kvm *kvm)
{
	return kvm_mmu_may_ignore_guest_pat(kvm);
}
#endif

/* Of the host's leaf entry; only one that maps page frames can have several types. */
static inline int kvm_memtype_max_level(int level, bool special, unsigned long pfn,
					unsigned long hva)
{
	return special ? kvm_memtype_special_level(level, pfn, hva) : level;
}

#endif /* __KVM_X86_MEMTYPE_H */
