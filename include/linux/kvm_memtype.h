/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Guest memory types: which type KVM grants a guest for a page.
 *
 *	host VMA, pfn --mm/memtype.c--> host type --.
 *	flags of the memslot ------------------------+--virt/kvm/memtype.c--> intent
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
#include <linux/mutex.h>
#include <linux/srcu.h>
#include <linux/types.h>
#include <uapi/linux/kvm_memtype.h>

struct kvm;
struct kvm_enable_cap;
struct kvm_memory_slot;
struct kvm_vcpu;
struct mmu_notifier_range;

/**
 * struct kvm_memtype_vm - a VM's choice; a member of struct kvm
 * @policy: KVM_MEMTYPE_POLICY_*
 * @ram_source: KVM_MEMTYPE_SOURCE_* of memory that the host caches, if nothing that
 *	can change later has a say in it but KVM_MEM_FORCE_WB, else
 *	KVM_MEMTYPE_SOURCE_NONE
 *
 * @caches_on: arm64: all memory was maintained when a vCPU turned its caches on, and
 *	none that KVM watches has turned them off since
 * @caches_lock: of @caches_on, and held while memory is maintained
 *
 * @policy and @ram_source are written under kvm->lock and before the first vCPU only, so
 * that they are constant for faults; read without a lock.
 */
struct kvm_memtype_vm {
#ifdef CONFIG_KVM_MEMTYPE
	u8 policy;
	u8 ram_source;
	bool caches_on;
	struct mutex caches_lock;	/* of caches_on */
#endif
};

/**
 * struct kvm_memtype_host - what a page is to the host
 * @kind: the type of the host's accesses to it
 * @mmio: it is not memory
 * @any_uncached: its VMA has VM_ALLOW_ANY_UNCACHED, and the host has such a type
 * @untagged: memory of the VM needs VM_MTE_ALLOWED, and its VMA does not have it
 * @platform: x86: what the host's MTRRs say of it; MEMTYPE_NONE: as WB
 */
struct kvm_memtype_host {
	enum memtype_kind kind;
	bool mmio;
	bool any_uncached;
	bool untagged;
	enum memtype_kind platform;
};

/**
 * struct kvm_memtype_intent - what KVM grants for a page
 * @kind: MEMTYPE_WB, MEMTYPE_WC or MEMTYPE_UC, on x86 also MEMTYPE_WT or
 *	MEMTYPE_WP; MEMTYPE_NONE if @refusal is set
 * @any_uncached: @kind is UC, and the guest may also choose WC
 * @forced: @kind is WB, and the guest's choice is ignored
 * @source: KVM_MEMTYPE_SOURCE_*
 * @refusal: KVM_MEMTYPE_REFUSAL_*
 */
struct kvm_memtype_intent {
	enum memtype_kind kind;
	bool any_uncached;
	bool forced;
	u8 source;
	u8 refusal;
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

/**
 * enum kvm_memtype_mmio - what a guest gets of MMIO that the host maps WB, WT or WP
 * @KVM_MEMTYPE_MMIO_REFUSED: no access, because KVM cannot map it safely
 * @KVM_MEMTYPE_MMIO_UC: uncached
 * @KVM_MEMTYPE_MMIO_CACHED: what the host has
 */
enum kvm_memtype_mmio {
	KVM_MEMTYPE_MMIO_REFUSED,
	KVM_MEMTYPE_MMIO_UC,
	KVM_MEMTYPE_MMIO_CACHED,
};

#ifdef CONFIG_KVM_MEMTYPE
void kvm_memtype_init_vm(struct kvm *kvm);
void kvm_memtype_create_debugfs(struct kvm *kvm);
int kvm_memtype_check_cap(struct kvm *kvm);
int kvm_memtype_enable_cap(struct kvm *kvm, const struct kvm_enable_cap *cap);
long kvm_vm_ioctl_get_memtype(struct kvm *kvm, void __user *argp);
u32 kvm_memtype_slot_flags(struct kvm *kvm);
bool kvm_memtype_dma_changed(struct kvm *kvm);
u8 kvm_memtype_policy(struct kvm *kvm);
bool kvm_memtype_is_legacy(struct kvm *kvm);
void kvm_memtype_apply_vma(struct kvm *kvm, unsigned long vm_flags, struct kvm_memtype_host *host);
struct kvm_memtype_intent kvm_memtype_decide(struct kvm *kvm, const struct kvm_memory_slot *slot,
					     struct kvm_memtype_host host);
struct kvm_memtype_intent kvm_memtype_fault(struct kvm_vcpu *vcpu,
					    const struct kvm_memory_slot *slot, u64 gfn,
					    struct kvm_memtype_host host);
bool kvm_memtype_fault_ram(struct kvm_vcpu *vcpu, const struct kvm_memory_slot *slot, u64 gfn);
int kvm_memtype_refuse(struct kvm_vcpu *vcpu, u64 gfn, u8 refusal);
int kvm_memtype_no_page(struct kvm_vcpu *vcpu, u64 gfn, unsigned long mmu_seq, u64 pfn);
u64 kvm_memtype_error_pfn(int error);
bool kvm_memtype_borrow(const struct kvm_memory_slot *slot, u64 gfn, bool write, u64 *pfn,
			bool *writable);

/*
 * What follows is each architecture's. It may be called in any context and takes no
 * lock, unless its comment says otherwise.
 */

/**
 * kvm_arch_memtype_control - what the CPU does with a guest's choice for RAM
 * @kvm: the VM; NULL for a new one
 *
 * Return: Constant once the VM has a vCPU.
 */
enum kvm_memtype_control kvm_arch_memtype_control(struct kvm *kvm);

/**
 * kvm_arch_memtype_legacy_forces - whether KVM ignored a guest's choice before
 * @kvm: the VM; NULL for a new one
 *
 * Return: Whether the legacy policy forces RAM to write-back, while the VM has
 * no non-coherent DMA.
 */
bool kvm_arch_memtype_legacy_forces(struct kvm *kvm);

/**
 * kvm_arch_memtype_can_force - whether KVM can ignore a guest's choice
 * @kvm: the VM; NULL for a new one
 *
 * Return: Whether a memslot may ask for that (KVM_MEM_FORCE_WB).
 */
bool kvm_arch_memtype_can_force(struct kvm *kvm);

/**
 * kvm_arch_memtype_decides - whether KVM decides about the memory types of a VM
 * @kvm: the VM; NULL for a new one
 *
 * Context: After kvm_arch_init_vm().
 * Return: False for a VM whose memory the host does not control. Constant.
 */
bool kvm_arch_memtype_decides(struct kvm *kvm);

/**
 * kvm_arch_memtype_only_ram - whether KVM can map nothing but memory that the host caches
 *
 * Return: Constant.
 */
bool kvm_arch_memtype_only_ram(void);

/**
 * kvm_arch_memtype_cached_mmio - what a guest gets of MMIO that the host caches
 * @kvm: the VM; NULL for a new one
 *
 * Return: Constant once the VM has a vCPU.
 */
enum kvm_memtype_mmio kvm_arch_memtype_cached_mmio(struct kvm *kvm);

/**
 * kvm_arch_memtype_any_uncached - whether a guest may choose WC for what is UC to the host
 * @vm_flags: the flags of the VMA
 *
 * VM_ALLOW_ANY_UNCACHED is how a driver agrees to that.
 *
 * Return: Whether it may.
 */
bool kvm_arch_memtype_any_uncached(unsigned long vm_flags);

/**
 * kvm_arch_memtype_needs_tags - whether write-back memory needs VM_MTE_ALLOWED
 * @kvm: the VM; NULL for a new one
 *
 * Return: Whether it does.
 */
bool kvm_arch_memtype_needs_tags(struct kvm *kvm);

/**
 * kvm_arch_memtype_has_stage1 - whether a VM can have KVM_MEMTYPE_POLICY_STAGE1
 * @kvm: the VM; NULL for a new one
 *
 * Context: Process context. Takes kvm->srcu.
 * Return: Whether it can.
 */
bool kvm_arch_memtype_has_stage1(struct kvm *kvm);

/**
 * kvm_arch_memtype_set_stage1 - turn KVM_MEMTYPE_POLICY_STAGE1 on or off
 * @kvm: the VM, which has neither a vCPU nor anything mapped
 * @on: on, which kvm_arch_memtype_has_stage1() allows, or off
 *
 * Context: Under kvm->lock and kvm->slots_lock.
 */
void kvm_arch_memtype_set_stage1(struct kvm *kvm, bool on);

/**
 * kvm_arch_memtype_host - what a page is to the host
 * @kvm: the VM; NULL for a new one
 * @map: how it is mapped; it is present
 *
 * Context: Process context. x86 looks at what PAT tracks of a page that is reserved,
 * and takes memtype_lock and resource_lock.
 * Return: What the fault handler decides by, too, but for what follows from the
 * flags of the VMA alone.
 */
struct kvm_memtype_host kvm_arch_memtype_host(struct kvm *kvm, const struct memtype_mapping *map);

/**
 * kvm_arch_memtype_mapped - how much of a guest's memory is mapped
 * @kvm: the VM
 * @as_id: address space
 * @start: guest frame number, in pages
 * @end: guest frame number behind the last, in pages
 *
 * Context: Process context. Takes kvm->mmu_lock for reading.
 * Return: Number of pages, or -EOPNOTSUPP if nobody knows.
 */
s64 kvm_arch_memtype_mapped(struct kvm *kvm, int as_id, u64 start, u64 end);

/**
 * kvm_arch_memtype_noexec - whether instruction fetches abort
 * @intent: what the page is mapped with
 *
 * Return: Whether they do.
 */
bool kvm_arch_memtype_noexec(const struct kvm_memtype_intent *intent);

/**
 * kvm_arch_memtype_effective - the type that the CPU uses
 * @kvm: the VM; NULL for a new one
 * @host: what the page is to the host
 * @intent: what the page is mapped with
 * @guest: what the guest chooses
 *
 * Return: The cell of the architecture's combining table, or MEMTYPE_NONE if a
 * guest cannot choose @guest.
 */
enum memtype_kind kvm_arch_memtype_effective(struct kvm *kvm,
					     const struct kvm_memtype_host *host,
					     const struct kvm_memtype_intent *intent,
					     enum memtype_kind guest);
#else
static inline void kvm_memtype_init_vm(struct kvm *kvm)
{
}

static inline void kvm_memtype_create_debugfs(struct kvm *kvm)
{
}

static inline u32 kvm_memtype_slot_flags(struct kvm *kvm)
{
	return 0;
}

static inline bool kvm_memtype_fault_ram(struct kvm_vcpu *vcpu, const struct kvm_memory_slot *slot,
					 u64 gfn)
{
	return false;
}

static inline int kvm_memtype_refuse(struct kvm_vcpu *vcpu, u64 gfn, u8 refusal)
{
	return -EFAULT;
}

static inline int kvm_memtype_no_page(struct kvm_vcpu *vcpu, u64 gfn, unsigned long mmu_seq,
				      u64 pfn)
{
	return -EFAULT;
}

static inline bool kvm_memtype_borrow(const struct kvm_memory_slot *slot, u64 gfn, bool write,
				      u64 *pfn, bool *writable)
{
	return false;
}

/* A macro, because <linux/kvm_host.h> has the errors behind this. */
#define kvm_memtype_error_pfn(error)	((void)(error), KVM_PFN_ERR_FAULT)

static inline int kvm_memtype_check_cap(struct kvm *kvm)
{
	return 0;
}

static inline int kvm_memtype_enable_cap(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	return -EINVAL;
}

static inline long kvm_vm_ioctl_get_memtype(struct kvm *kvm, void __user *argp)
{
	return -ENOTTY;
}
#endif /* CONFIG_KVM_MEMTYPE */

/* The mark of memslots with plain memory. arm64 has none: it has the VMA in each fault. */
#if defined(CONFIG_KVM_MEMTYPE) && defined(CONFIG_X86)
void kvm_memtype_commit_slot(struct kvm *kvm, const struct kvm_memory_slot *new);
void kvm_memtype_replace_slot(struct kvm_memory_slot *old);
void kvm_memtype_unmapped(struct kvm *kvm, const struct mmu_notifier_range *range);
#else
static inline void kvm_memtype_commit_slot(struct kvm *kvm, const struct kvm_memory_slot *new)
{
}

static inline void kvm_memtype_replace_slot(struct kvm_memory_slot *old)
{
}

static inline void kvm_memtype_unmapped(struct kvm *kvm, const struct mmu_notifier_range *range)
{
}
#endif

#if defined(CONFIG_KVM_MEMTYPE) && defined(CONFIG_ARM64)
void kvm_memtype_log_out(struct kvm *kvm, const struct kvm_memory_slot *slot, u64 first,
			 unsigned long npages, const unsigned long *bitmap);
void kvm_memtype_log_reset(struct kvm *kvm, const struct kvm_memory_slot *slot, u64 offset,
			   unsigned long mask);
#else
/* x86 keeps its caches coherent with a guest's uncached accesses. */
static inline void kvm_memtype_log_out(struct kvm *kvm, const struct kvm_memory_slot *slot,
				       u64 first, unsigned long npages,
				       const unsigned long *bitmap)
{
}

static inline void kvm_memtype_log_reset(struct kvm *kvm, const struct kvm_memory_slot *slot,
					 u64 offset, unsigned long mask)
{
}
#endif

/**
 * kvm_memtype_exit_barrier - wait for the guest's write-combining stores
 *
 * A guest's WC stores may still be in a buffer of the CPU after a VM exit, which
 * does not drain it (Intel SDM vol. 3 section 13.3.1 lists what does). KVM handles
 * the exit, and lets userspace handle it, with the guest's memory in hand, so a
 * full barrier has to stand between VM exit and that. x86's run loop takes
 * kvm->srcu there, and __srcu_read_lock() ends with smp_mb(); this names the
 * dependency, and costs nothing. "make check" disassembles the kernel to see that
 * the barrier is there. In a kernel for one CPU, smp_mb() is one of the compiler
 * only, so that a barrier of the CPU is added. Flavours of SRCU that have none are
 * not for kvm->srcu.
 *
 * arm64 does not call it: its memory model has one order for Cacheable and
 * Non-cacheable accesses, and where the host accesses the same memory with
 * another type, that takes cache maintenance rather than a fence (Arm ARM DDI
 * 0487, section B2 "Mismatched memory attributes").
 *
 * Context: After VM exit and kvm_vcpu_srcu_read_lock(), before guest memory is
 * read.
 */
static inline void kvm_memtype_exit_barrier(void)
{
	smp_mb__after_srcu_read_lock();
	if (!IS_ENABLED(CONFIG_SMP))
		mb();	/* empties the guest's WC buffers */
}

#endif /* _LINUX_KVM_MEMTYPE_H */
