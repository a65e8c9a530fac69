// SPDX-License-Identifier: GPL-2.0-only
/* KVM_MEMTYPE_PROBE on x86: the leaf SPTE of the TDP MMU. */
#include <linux/kvm_host.h>
#include <asm/mtrr.h>

#include "../../../virt/kvm/memtype_probe.h"
#include "mmu.h"
#include "mmu/mmu_internal.h"
#include "mmu/spte.h"
#include "mmu/tdp_mmu.h"

int kvm_arch_memtype_probe(struct kvm_vcpu *vcpu, struct kvm_memtype_probe *probe)
{
	u64 sptes[PT64_ROOT_MAX_LEVEL + 1];
	int level, root_level;
	phys_addr_t page;
	u8 uniform;

	/* While L2 runs, the root is one of the shadow MMU, which RCU does not protect. */
	if (!tdp_mmu_enabled || !vcpu->arch.mmu->root_role.direct)
		return -EOPNOTSUPP;
	if (!VALID_PAGE(vcpu->arch.mmu->root.hpa) || gpa_to_gfn(probe->gpa) > kvm_mmu_max_gfn())
		return -ENOENT;

	kvm_tdp_mmu_walk_lockless_begin();
	level = kvm_tdp_mmu_get_walk(vcpu, probe->gpa, sptes, &root_level);
	kvm_tdp_mmu_walk_lockless_end();
	if (level < 0 || !is_shadow_present_pte(sptes[level]) || !is_last_spte(sptes[level], level))
		return -ENOENT;

	page = (sptes[level] & SPTE_BASE_ADDR_MASK) |
	       (probe->gpa & (KVM_HPAGE_SIZE(level) - 1) & PAGE_MASK);
	probe->leaf = sptes[level];
	probe->size = KVM_HPAGE_SIZE(level);
	probe->format = shadow_memtype_mask ? KVM_MEMTYPE_PROBE_EPT : KVM_MEMTYPE_PROBE_NPT;
	probe->mtrr = mtrr_type_lookup(page, page + PAGE_SIZE, &uniform);
	return 0;
}
