/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory types of stage-2 page tables: what the page table code, which is also
 * built for EL2 alone, and the code of vCPUs have to know about them.
 */
#ifndef __ASM_KVM_MEMTYPE_H
#define __ASM_KVM_MEMTYPE_H

#include <linux/bitfield.h>
#include <linux/cpufeature.h>
#include <asm/kvm_memtype_base.h>
#include <asm/kvm_pgtable.h>
#include <asm/memory.h>

/* Device-nGnRE, with FWB and without; section D8.6. */
#define MT_S2_DEVICE		0x1

/**
 * kvm_stage2_has_fwb - whether a stage 2 forces write-back for memory
 * @pgt: the stage-2 page table
 *
 * If not, the guest may bypass or disable its caches, and software has to keep
 * them coherent: clean and invalidate what is mapped and unmapped, look out for
 * the guest's cache maintenance by set/way and for its caches going on and off.
 *
 * Context: Any, EL2 included.
 * Return: Whether it does. Constant once anything is mapped.
 */
static inline bool kvm_stage2_has_fwb(const struct kvm_pgtable *pgt)
{
	if (!cpus_have_final_cap(ARM64_HAS_STAGE2_FWB))
		return false;

	return !(pgt->flags & (KVM_PGTABLE_S2_NOFWB | KVM_PGTABLE_S2_AS_S1));
}

/**
 * kvm_stage2_memattr - the memory attributes of a leaf entry
 * @pgt: the stage-2 page table
 * @type: MT_S2_*, what the entry is to be without FWB
 * @fwb_type: MT_S2_FWB_*, the same with FWB
 *
 * Context: Any, EL2 included.
 * Return: Bits 5:2 of the entry, Arm ARM DDI 0487 section D8.6.
 */
static inline kvm_pte_t kvm_stage2_memattr(const struct kvm_pgtable *pgt, u8 type, u8 fwb_type)
{
	bool fwb = cpus_have_final_cap(ARM64_HAS_STAGE2_FWB) &&
		   !(pgt->flags & KVM_PGTABLE_S2_NOFWB);

	/* Not of what is to be Device or Non-cacheable, which stage 1 must not make cacheable. */
	if (pgt->flags & KVM_PGTABLE_S2_AS_S1 && type == MT_S2_NORMAL)
		fwb_type = MT_S2_FWB_AS_S1;
	return PTE_S2_MEMATTR(fwb ? fwb_type : type);
}

static inline u8 kvm_stage2_pte_memattr(kvm_pte_t pte)
{
	return FIELD_GET(KVM_PTE_LEAF_ATTR_LO_S2_MEMATTR, pte);
}

/* Software bit of a leaf entry: it maps memory, but not cacheable. */
#define KVM_PGTABLE_PROT_UNCACHED_RAM	KVM_PGTABLE_PROT_SW2

/**
 * kvm_stage2_uncached_ram - whether an entry maps memory, but not cacheable
 * @pte: a leaf entry
 *
 * Such memory has dirty lines before it is mapped, from when it was cleared, and
 * stale ones afterwards, from speculation by the kernel's linear map. FWB does
 * not help.
 *
 * Context: Any. At EL2 alone, where no such memory is mapped, always false.
 * Return: Whether it does.
 */
static inline bool kvm_stage2_uncached_ram(kvm_pte_t pte)
{
	return kvm_pte_valid(pte) && pte & KVM_PGTABLE_PROT_UNCACHED_RAM;
}

/**
 * kvm_stage2_needs_cmo - whether what an entry maps must be cleaned and invalidated
 * @pgt: the stage-2 page table
 * @pte: a leaf entry
 *
 * That is before it becomes valid, and after it is no longer and the TLBs do not
 * have it either, so that nothing refills what was just invalidated. Of a block that is
 * replaced by a table, what the table does not map again has left the guest, too.
 *
 * Context: Any, EL2 included.
 * Return: Whether it must.
 */
static inline bool kvm_stage2_needs_cmo(const struct kvm_pgtable *pgt, kvm_pte_t pte)
{
	u8 memattr = kvm_stage2_pte_memattr(pte);

	if (!kvm_pte_valid(pte))
		return false;
	return (!kvm_stage2_has_fwb(pgt) &&
		(memattr == MT_S2_NORMAL || memattr == MT_S2_FWB_AS_S1)) ||
	       kvm_stage2_uncached_ram(pte);
}

/**
 * kvm_stage2_type - the memory type of an entry, as kvm_pgtable_stage2_map() takes it
 * @pte: a leaf entry
 *
 * Context: Any, EL2 included.
 * Return: KVM_PGTABLE_PROT_NORMAL_NC, KVM_PGTABLE_PROT_DEVICE, or 0 for memory that
 * is mapped as the page table does by itself.
 */
static inline enum kvm_pgtable_prot kvm_stage2_type(kvm_pte_t pte)
{
	if (!IS_ENABLED(CONFIG_KVM_MEMTYPE))
		return 0;

	switch (kvm_stage2_pte_memattr(pte)) {
	case MT_S2_NORMAL_NC:
		return KVM_PGTABLE_PROT_NORMAL_NC;
	case MT_S2_DEVICE:
		return KVM_PGTABLE_PROT_DEVICE;
	default:
		return 0;
	}
}

#endif /* __ASM_KVM_MEMTYPE_H */
