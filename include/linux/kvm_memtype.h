/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Guest memory types: which type KVM grants a guest for a page.
 *
 *	host VMA, pfn --mm/memtype.c--> host type --.
 *	                                             >--virt/kvm/memtype.c--> intent
 *	policy of the VM ---------------------------'                            |
 *	                                                                         v
 *	                      arch/.../kvm/memtype.c: intent --> second-stage encoding
 *
 * All policy is in virt/kvm/memtype.c. An architecture contributes what its
 * CPU can do and how it encodes an intent, and calls kvm_memtype_fault() where
 * its fault handler knows the page.
 */
#ifndef _LINUX_KVM_MEMTYPE_H
#define _LINUX_KVM_MEMTYPE_H

#include <linux/errno.h>
#include <linux/memtype.h>
#include <linux/types.h>
#include <uapi/linux/kvm_memtype.h>

struct kvm;
struct kvm_enable_cap;

/**
 * struct kvm_memtype_vm - a VM's choice; a member of struct kvm
 * @policy: KVM_MEMTYPE_POLICY_*. Written under kvm->lock and before the first
 *	vCPU only, so that it is constant for faults; read without a lock.
 */
struct kvm_memtype_vm {
#ifdef CONFIG_KVM_MEMTYPE
	u8 policy;
#endif
};

/**
 * struct kvm_memtype_intent - what KVM grants for a page
 * @kind: MEMTYPE_WB, MEMTYPE_WC or MEMTYPE_UC
 * @any_uncached: @kind is UC, and the guest may also choose WC
 * @forced: @kind is WB, and the guest's choice is ignored
 * @source: KVM_MEMTYPE_SOURCE_*
 */
struct kvm_memtype_intent {
	enum memtype_kind kind;
	bool any_uncached;
	bool forced;
	u8 source;
};

/**
 * enum kvm_memtype_control - what the CPU does with a guest's choice for RAM
 * @KVM_MEMTYPE_CONTROL_GUEST: honours it, and stays coherent
 * @KVM_MEMTYPE_CONTROL_UNSAFE: honours it unless told not to, and the host's
 *	cached accesses to the same memory are then not coherent with it
 * @KVM_MEMTYPE_CONTROL_HOST: ignores it, because of KVM's encoding or by itself
 */
enum kvm_memtype_control {
	KVM_MEMTYPE_CONTROL_GUEST,
	KVM_MEMTYPE_CONTROL_UNSAFE,
	KVM_MEMTYPE_CONTROL_HOST,
};

#ifdef CONFIG_KVM_MEMTYPE
void kvm_memtype_init_vm(struct kvm *kvm);
int kvm_memtype_check_cap(struct kvm *kvm);
int kvm_memtype_enable_cap(struct kvm *kvm, const struct kvm_enable_cap *cap);
long kvm_memtype_vm_ioctl(struct kvm *kvm, unsigned int ioctl, void __user *argp);
struct kvm_memtype_intent kvm_memtype_fault(struct kvm *kvm, u64 gfn, struct memtype_host host);

/*
 * What follows is each architecture's. All of it may be called in any context
 * and takes no lock.
 */

/**
 * kvm_arch_memtype_control - what the CPU does with a guest's choice for RAM
 *
 * Return: Constant once KVM is initialised.
 */
enum kvm_memtype_control kvm_arch_memtype_control(void);

/**
 * kvm_arch_memtype_legacy_forces - whether KVM ignored a guest's choice before
 * @kvm: the VM; NULL for a new one
 *
 * Return: Whether the legacy policy forces RAM to write-back, while the VM has
 * no non-coherent DMA.
 */
bool kvm_arch_memtype_legacy_forces(struct kvm *kvm);

/**
 * kvm_arch_memtype_is_mmio - whether a page may not be mapped write-back
 * @pfn: host frame number, in pages
 *
 * Return: What the fault handler decides by, too.
 */
bool kvm_arch_memtype_is_mmio(unsigned long pfn);

/**
 * kvm_arch_memtype_noexec - whether instruction fetches abort
 * @intent: what the page is mapped with
 *
 * Return: Whether they do.
 */
bool kvm_arch_memtype_noexec(const struct kvm_memtype_intent *intent);

/**
 * kvm_arch_memtype_effective - the type that the CPU uses
 * @intent: what the page is mapped with
 * @guest: what the guest chooses
 *
 * Return: The cell of the architecture's combining table, or MEMTYPE_NONE if a
 * guest cannot choose @guest.
 */
enum memtype_kind kvm_arch_memtype_effective(const struct kvm_memtype_intent *intent,
					     enum memtype_kind guest);
#else
static inline void kvm_memtype_init_vm(struct kvm *kvm)
{
}

static inline int kvm_memtype_check_cap(struct kvm *kvm)
{
	return 0;
}

static inline int kvm_memtype_enable_cap(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	return -EINVAL;
}

static inline long kvm_memtype_vm_ioctl(struct kvm *kvm, unsigned int ioctl, void __user *argp)
{
	return -ENOTTY;
}
#endif /* CONFIG_KVM_MEMTYPE */

#endif /* _LINUX_KVM_MEMTYPE_H */
