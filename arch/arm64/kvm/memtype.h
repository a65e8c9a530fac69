/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __ARM64_KVM_MEMTYPE_H
#define __ARM64_KVM_MEMTYPE_H

#include <linux/kvm_host.h>
#include <linux/kvm_memtype.h>
#include <linux/mm.h>
#include <asm/kvm_pgtable.h>

#ifdef CONFIG_KVM_MEMTYPE
int kvm_memtype_special_prot(struct kvm_vcpu *vcpu, struct kvm_memory_slot *slot,
			     unsigned long hva, vm_flags_t vm_flags, bool exec,
			     enum kvm_pgtable_prot *prot, bool *device);
int kvm_memtype_check_vma(struct kvm *kvm, struct vm_area_struct *vma, unsigned long hva);
bool kvm_memtype_is_stage1(struct kvm *kvm);
void kvm_memtype_toggle_cache(struct kvm *kvm, bool on, void (*flush)(struct kvm *kvm));
void kvm_memtype_caches_off(struct kvm *kvm);

/* Whether the host's leaf entries of a VMA, rather than its pages, say the type. */
static inline bool kvm_memtype_is_special(vm_flags_t vm_flags)
{
	return vm_flags & (VM_IO | VM_PFNMAP | VM_MIXEDMAP);
}

/* KVM itself asks the VMA alone. */
static inline bool kvm_memtype_asks_leaf(void)
{
	return true;
}

/* Whether PFNMAP is mapped cacheable, if the host maps it so */
static inline bool kvm_memtype_caches_pfnmap(struct kvm *kvm)
{
	return kvm_arch_memtype_cached_mmio(kvm) == KVM_MEMTYPE_MMIO_CACHED;
}

/**
 * kvm_memtype_prot - the memory type of a stage-2 leaf entry
 * @vcpu: the vCPU that faults
 * @slot: the memslot
 * @gfn: guest frame number, in pages
 * @hva: virtual address that was faulted, in bytes
 * @vm_flags: flags of the VMA
 * @exec: the guest fetches an instruction
 * @prot: KVM_PGTABLE_PROT_NORMAL_NC or KVM_PGTABLE_PROT_DEVICE is added, or neither
 *	for write-back; with memory, KVM_PGTABLE_PROT_UNCACHED_RAM as well
 * @device: whether the page is not memory; then, whether it is not mapped
 *	cacheable and so needs neither tags nor to be executable
 *
 * A block is never larger than the host's, and so has one type.
 *
 * Context: After the mmu_invalidate_seq snapshot, of which the check is yet to come; or under
 * mmu_lock, after the check.
 * Return: 0; 1 if the guest must fault again; -ENOEXEC if it must not
 * execute from there; -EFAULT if the page is refused, and the exit of KVM_RUN is
 * prepared. After an error, @prot and @device are as before.
 */
static inline int kvm_memtype_prot(struct kvm_vcpu *vcpu, struct kvm_memory_slot *slot,
				   gfn_t gfn, unsigned long hva, vm_flags_t vm_flags, bool exec,
				   enum kvm_pgtable_prot *prot, bool *device)
{
	if (unlikely(*device || kvm_memtype_is_special(vm_flags) || kvm_has_mte(vcpu->kvm)))
		return kvm_memtype_special_prot(vcpu, slot, hva, vm_flags, exec, prot, device);

	/* Forced or not, write-back is what the page table does by itself. */
	kvm_memtype_fault_ram(vcpu, slot, gfn);
	return 0;
}
#else
static inline int kvm_memtype_prot(struct kvm_vcpu *vcpu, struct kvm_memory_slot *slot,
				   gfn_t gfn, unsigned long hva, vm_flags_t vm_flags, bool exec,
				   enum kvm_pgtable_prot *prot, bool *device)
{
	if (*device && exec)
		return -ENOEXEC;
	if (*device)
		*prot |= vm_flags & VM_ALLOW_ANY_UNCACHED ? KVM_PGTABLE_PROT_NORMAL_NC :
							    KVM_PGTABLE_PROT_DEVICE;
	return 0;
}

static inline int kvm_memtype_check_vma(struct kvm *kvm, struct vm_area_struct *vma,
					unsigned long hva)
{
	return kvm_has_mte(kvm) && !(vma->vm_flags & VM_MTE_ALLOWED) ? -EINVAL : 0;
}

static inline bool kvm_memtype_asks_leaf(void)
{
	return false;
}

/* A macro, because older kernels do not have it. */
#define kvm_memtype_caches_pfnmap(kvm)	((void)(kvm), kvm_supports_cacheable_pfnmap())

static inline bool kvm_memtype_is_stage1(struct kvm *kvm)
{
	return false;
}

static inline void kvm_memtype_toggle_cache(struct kvm *kvm, bool on,
					    void (*flush)(struct kvm *kvm))
{
	flush(kvm);
}

static inline void kvm_memtype_caches_off(struct kvm *kvm)
{
}
#endif

#endif /* __ARM64_KVM_MEMTYPE_H */
