/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __ARM64_KVM_MEMTYPE_H
#define __ARM64_KVM_MEMTYPE_H

#include <linux/kvm_host.h>
#include <linux/kvm_memtype.h>
#include <asm/kvm_pgtable.h>

#ifdef CONFIG_KVM_MEMTYPE
enum kvm_pgtable_prot kvm_memtype_prot(struct kvm *kvm, gfn_t gfn, bool device, bool any_uncached);
#else
static inline enum kvm_pgtable_prot kvm_memtype_prot(struct kvm *kvm, gfn_t gfn, bool device,
						     bool any_uncached)
{
	if (!device)
		return 0;
	return any_uncached ? KVM_PGTABLE_PROT_NORMAL_NC : KVM_PGTABLE_PROT_DEVICE;
}
#endif

#endif /* __ARM64_KVM_MEMTYPE_H */
