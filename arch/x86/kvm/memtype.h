/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_MEMTYPE_H
#define __KVM_X86_MEMTYPE_H

#include <linux/kvm_host.h>
#include <linux/kvm_memtype.h>

bool kvm_is_mmio_pfn(kvm_pfn_t pfn);

#ifdef CONFIG_KVM_MEMTYPE
u64 kvm_memtype_spte(struct kvm_vcpu *vcpu, gfn_t gfn, kvm_pfn_t pfn);
#else
static inline u64 kvm_memtype_spte(struct kvm_vcpu *vcpu, gfn_t gfn, kvm_pfn_t pfn)
{
	return kvm_x86_call(get_mt_mask)(vcpu, gfn, kvm_is_mmio_pfn(pfn));
}
#endif

#endif /* __KVM_X86_MEMTYPE_H */
