/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_MEMTYPE_H
#define __KVM_X86_MEMTYPE_H

#include <linux/kvm_host.h>
#include <linux/kvm_memtype.h>
#include <linux/tracepoint-defs.h>
#include <asm/mtrr.h>
#include <asm/vmx.h>

#include "memtype_base.h"
#include "mmu/spte.h"
#include "x86.h"

#ifdef CONFIG_KVM_MEMTYPE
DECLARE_TRACEPOINT(kvm_memtype_map);

u64 kvm_memtype_spte_of_page(struct kvm_vcpu *vcpu, const struct kvm_memory_slot *slot, gfn_t gfn,
			     kvm_pfn_t pfn, int *is_host_mmio);
u64 kvm_memtype_merge_nested(u64 spte, unsigned int pte_access);
int kvm_memtype_special_level(int level, u64 leaf, unsigned long hva);

/**
 * kvm_memtype_spte - the memory type bits of a leaf SPTE
 * @vcpu: the vCPU that faults
 * @slot: the memslot
 * @gfn: guest frame number, in pages
 * @pfn: host frame number, in pages; of a large page, they all have one type
 * @is_host_mmio: what kvm_memtype_is_mmio_pfn() remembers
 *
 * EPT: memory type and ignore-PAT (Intel SDM vol. 3 section 30.3.7.2). NPT, and shadow
 * paging on SVM: PWT and PCD, bits 3 and 4 (AMD APM vol. 2 section 15.25.8).
 *
 * Context: Under mmu_lock, after the page fault was found not to be stale.
 * Return: The bits. Nearly all faults are for plain memory of VMs with the default
 * policy, and have them at next to no cost.
 */
static inline u64 kvm_memtype_spte(struct kvm_vcpu *vcpu, const struct kvm_memory_slot *slot,
				   gfn_t gfn, kvm_pfn_t pfn, int *is_host_mmio)
{
	/* The mark can go meanwhile. The MMU notifier that took it zaps the SPTE, too. */
	if (unlikely(!data_race(slot->memtype_plain) ||
		     vcpu->kvm->memtype.ram_source != KVM_MEMTYPE_SOURCE_RAM ||
		     tracepoint_enabled(kvm_memtype_map)))
		return kvm_memtype_spte_of_page(vcpu, slot, gfn, pfn, is_host_mmio);

	vcpu->stat.generic.memtype_wb++;
	return kvm_memtype_ept_mask ? MTRR_TYPE_WRBACK << VMX_EPT_MT_EPTE_SHIFT : 0;
}

/*
 * What L1's EPT says of the memory type of a page of L2's. The shadow MMU carries it
 * along with L1's permissions, in bits above ACC_ALL: in pte_access, in
 * shadowed_translation, and in the role of direct shadow pages, each of which stands
 * for a part of one large page of L1's.
 *
 * The bits are memory type and ignore-PAT, as L1's entry has them (6:3), XORed with
 * type WB. So 0 is WB without IPAT, which changes nothing, and which is what everyone
 * has who does not shadow EPT. 5 types, each with and without IPAT, are 10 values.
 */
#define ACC_MEMTYPE_SHIFT	(const_ilog2(ACC_ALL) + 1 - VMX_EPT_MT_EPTE_SHIFT)
#define ACC_MEMTYPE_MASK	((unsigned int)KVM_MEMTYPE_EPT_BITS << ACC_MEMTYPE_SHIFT)
#define KVM_MEMTYPE_EPT_BITS	(VMX_EPT_MT_MASK | VMX_EPT_IPAT_BIT)
#define KVM_MEMTYPE_EPT_WB	(MTRR_TYPE_WRBACK << VMX_EPT_MT_EPTE_SHIFT)

/* The bits for a leaf entry of the guest's page tables, which are an EPT or not. */
static inline unsigned int kvm_memtype_gpte(bool ept, u64 gpte)
{
	return ept ? ((gpte ^ KVM_MEMTYPE_EPT_WB) & KVM_MEMTYPE_EPT_BITS) << ACC_MEMTYPE_SHIFT : 0;
}

/* Whether the entry's bits are no longer those in @access. */
static inline bool kvm_memtype_gpte_changed(bool ept, u64 gpte, unsigned int access)
{
	return ept && kvm_memtype_gpte(ept, gpte) != (access & ACC_MEMTYPE_MASK);
}

/* @spte with the bits of @pte_access merged into its memory type. */
static inline u64 kvm_memtype_merge(u64 spte, unsigned int pte_access)
{
	if (likely(!(pte_access & ACC_MEMTYPE_MASK)))
		return spte;
	return kvm_memtype_merge_nested(spte, pte_access);
}
#else
static inline u64 kvm_memtype_spte(struct kvm_vcpu *vcpu, const struct kvm_memory_slot *slot,
				   gfn_t gfn, kvm_pfn_t pfn, int *is_host_mmio)
{
	if (!kvm_memtype_ept_mask)
		return 0;
	return kvm_x86_call(get_mt_mask)(vcpu, gfn, kvm_memtype_is_mmio_pfn(pfn, is_host_mmio));
}

#define ACC_MEMTYPE_MASK	0

static inline unsigned int kvm_memtype_gpte(bool ept, u64 gpte)
{
	return 0;
}

static inline bool kvm_memtype_gpte_changed(bool ept, u64 gpte, unsigned int access)
{
	return false;
}

static inline u64 kvm_memtype_merge(u64 spte, unsigned int pte_access)
{
	return spte;
}

static inline int kvm_memtype_special_level(int level, u64 leaf, unsigned long hva)
{
	return level;
}

static inline bool kvm_memtype_dma_changed(struct kvm *kvm)
{
	return kvm_check_has_quirk(kvm, KVM_X86_QUIRK_IGNORE_GUEST_PAT);
}
#endif

/* Of the host's leaf entry; only one that maps page frames can have several types. */
static inline int kvm_memtype_max_level(int level, u64 leaf, unsigned long hva)
{
	return leaf & _PAGE_SPECIAL ? kvm_memtype_special_level(level, leaf, hva) : level;
}

#endif /* __KVM_X86_MEMTYPE_H */
