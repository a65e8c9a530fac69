/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where the kernels that this layer is built for differ: it uses the names of the newest
 * one, and here is what an older one has in their place.
 */
#ifndef __KVM_X86_MEMTYPE_BASE_H
#define __KVM_X86_MEMTYPE_BASE_H

#include <linux/kvm_host.h>

#include "mmu.h"
#include "mmu/spte.h"

/* Whether this is the older one; the newest knows of EPT entries that are not readable. */
#ifndef ACC_READ_MASK
bool kvm_is_mmio_pfn(kvm_pfn_t pfn);

/* The newest kernel remembers the answer in *@is_host_mmio, which is -1 at first. */
static inline bool kvm_memtype_is_mmio_pfn(kvm_pfn_t pfn, int *is_host_mmio)
{
	return kvm_is_mmio_pfn(pfn);
}

/* Not 0 if guests have EPT */
#define kvm_memtype_ept_mask	shadow_memtype_mask

#define for_each_tdp_spte(iter, kvm, root, start, end)				\
	for_each_tdp_pte(iter, ((void)(kvm), root), start, end)

/* TDX */
static inline bool kvm_has_mirrored_tdp(const struct kvm *kvm)
{
	return false;
}

static inline bool is_mirror_sp(const struct kvm_mmu_page *sp)
{
	return false;
}
#else
bool kvm_is_mmio_pfn(kvm_pfn_t pfn, int *is_host_mmio);

static inline bool kvm_memtype_is_mmio_pfn(kvm_pfn_t pfn, int *is_host_mmio)
{
	return kvm_is_mmio_pfn(pfn, is_host_mmio);
}

#define kvm_memtype_ept_mask	shadow_xs_mask

#define for_each_tdp_spte	for_each_tdp_pte
#endif

#endif /* __KVM_X86_MEMTYPE_BASE_H */
