// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM_MEMTYPE_PROBE on x86: the leaf SPTE of the TDP MMU, or of the one that shadows the
 * page tables of the guest or of L1.
 */
#include <linux/kvm_host.h>
#include <asm/mtrr.h>

#include "../../../virt/kvm/memtype_probe.h"
#include "memtype_base.h"
#include "mmu.h"
#include "mmu/mmu_internal.h"
#include "mmu/spte.h"
#include "mmu/tdp_mmu.h"

/* The last entry for @gpa and its level, which is -1 if there is none. */
static int kvm_memtype_probe_tdp(struct kvm_vcpu *vcpu, gpa_t gpa, u64 *spte)
{
	u64 sptes[PT64_ROOT_MAX_LEVEL + 1];
	int level, root_level;

	kvm_tdp_mmu_walk_lockless_begin();
	level = kvm_tdp_mmu_get_walk(vcpu, gpa, sptes, &root_level);
	kvm_tdp_mmu_walk_lockless_end();
	if (level >= 0)
		*spte = sptes[level];
	return level;
}

/*
 * The same while L2 runs. The root then is one that shadows L1's EPT or NPT, by L2's
 * addresses, and RCU does not protect it. Without two-dimensional paging it shadows the
 * guest's own page tables, by virtual addresses.
 */
static int kvm_memtype_probe_shadow(struct kvm_vcpu *vcpu, u64 addr, u64 *spte)
{
	hpa_t table = vcpu->arch.mmu->root.hpa;
	int level = vcpu->arch.mmu->root_role.level;

	read_lock(&vcpu->kvm->mmu_lock);
	for (;; level--) {
		*spte = READ_ONCE(((u64 *)__va(table))[SPTE_INDEX(addr, level)]);
		if (!is_shadow_present_pte(*spte) || is_last_spte(*spte, level))
			break;
		table = *spte & SPTE_BASE_ADDR_MASK;
	}
	read_unlock(&vcpu->kvm->mmu_lock);
	return level;
}

int kvm_arch_memtype_probe(struct kvm_vcpu *vcpu, struct kvm_memtype_probe *probe)
{
	struct kvm_mmu *mmu = vcpu->arch.mmu;
	bool shadow = !tdp_enabled || mmu == &vcpu->arch.guest_mmu;
	u64 addr = tdp_enabled ? probe->gpa : probe->gva;
	phys_addr_t page;
	u8 uniform;
	int level;
	u64 spte;

	if (shadow ? mmu->root_role.level < PT64_ROOT_4LEVEL :
		     !tdp_mmu_enabled || !mmu->root_role.direct)
		return -EOPNOTSUPP;
	if (!VALID_PAGE(mmu->root.hpa) || kvm_mmu_is_dummy_root(mmu->root.hpa) ||
	    gpa_to_gfn(probe->gpa) > kvm_mmu_max_gfn())
		return -ENOENT;

	level = shadow ? kvm_memtype_probe_shadow(vcpu, addr, &spte) :
			 kvm_memtype_probe_tdp(vcpu, addr, &spte);
	if (level < 0 || !is_shadow_present_pte(spte) || !is_last_spte(spte, level))
		return -ENOENT;

	page = (spte & SPTE_BASE_ADDR_MASK) | (addr & (KVM_HPAGE_SIZE(level) - 1) & PAGE_MASK);
	probe->leaf = spte;
	probe->size = KVM_HPAGE_SIZE(level);
	if (kvm_memtype_ept_mask)
		probe->format = KVM_MEMTYPE_PROBE_EPT;
	else
		probe->format = tdp_enabled ? KVM_MEMTYPE_PROBE_NPT : KVM_MEMTYPE_PROBE_SHADOW;
	probe->mtrr = mtrr_type_lookup(page, page + PAGE_SIZE, &uniform);
	return 0;
}

int kvm_arch_memtype_set_abort(struct kvm_vcpu *vcpu, const struct kvm_memtype_probe_abort *abort)
{
	return -EOPNOTSUPP;
}
