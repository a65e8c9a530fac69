/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_MEMTYPE_H
#define __KVM_X86_MEMTYPE_H

#include <linux/kvm_host.h>
#include <linux/kvm_memtype.h>

/* The layer tells userspace what make_spte() decides by; without it nobody else asks. */
#ifdef CONFIG_KVM_MEMTYPE
#define VISIBLE_IF_KVM_MEMTYPE
bool kvm_is_mmio_pfn(kvm_pfn_t pfn);
u64 kvm_memtype_spte(struct kvm_vcpu *vcpu, gfn_t gfn, bool is_mmio);
#else
#define VISIBLE_IF_KVM_MEMTYPE static

static inline u64 kvm_memtype_spte(struct kvm_vcpu *vcpu, gfn_t gfn, bool is_mmio)
{
	return kvm_x86_call(get_mt_mask)(vcpu, gfn, is_mmio);
}
#endif

#endif /* __KVM_X86_MEMTYPE_H */
