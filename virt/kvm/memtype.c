// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest memory types: the policy.
 *
 * kvm_memtype_decide() is the only place that decides which type a guest is
 * granted. It depends on the host's type of the page, on what the CPU does with
 * a guest's choice, on the memslot's flags, on the VM's policy and on whether the
 * VM has non-coherent DMA. Faults (kvm_memtype_fault()), KVM_GET_MEMTYPE and
 * debugfs all ask it, so that an answer is what a fault would do; where they
 * differ, Documentation/virt/kvm/memtype.rst says so. It takes no lock and
 * remembers nothing.
 *
 * An architecture turns the intent into second-stage attributes, and knows how
 * the CPU combines those with the guest's own choice.
 */
#include <linux/kvm_host.h>
#include <linux/kvm_memtype.h>
#include <linux/kvm_memtype_base.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/string.h>
#include <linux/symbol_ns.h>

#define CREATE_TRACE_POINTS
#include <trace/events/kvm_memtype.h>

static_assert(MEMTYPE_NONE == KVM_MEMTYPE_NONE);
static_assert(MEMTYPE_WB == KVM_MEMTYPE_WB);
static_assert(MEMTYPE_WT == KVM_MEMTYPE_WT);
static_assert(MEMTYPE_WP == KVM_MEMTYPE_WP);
static_assert(MEMTYPE_WC == KVM_MEMTYPE_WC);
static_assert(MEMTYPE_UC_MINUS == KVM_MEMTYPE_UC_MINUS);
static_assert(MEMTYPE_UC == KVM_MEMTYPE_UC);
static_assert(MEMTYPE_GRE == KVM_MEMTYPE_GRE);
static_assert(MEMTYPE_NGRE == KVM_MEMTYPE_NGRE);
static_assert(MEMTYPE_NGNRNE == KVM_MEMTYPE_NGNRNE);
static_assert(ARRAY_SIZE(((struct kvm_memtype *)NULL)->effective) >= NR_MEMTYPES);

MODULE_IMPORT_NS(SYMBOL_NS(KVM_MEMTYPE));

static u8 kvm_memtype_default_policy = KVM_MEMTYPE_POLICY_HONOR;

static int kvm_memtype_param_set(const char *value, const struct kernel_param *param)
{
	u8 policy;

	if (sysfs_streq(value, "honor"))
		policy = KVM_MEMTYPE_POLICY_HONOR;
	else if (sysfs_streq(value, "legacy"))
		policy = KVM_MEMTYPE_POLICY_LEGACY;
	else
		return -EINVAL;

	WRITE_ONCE(kvm_memtype_default_policy, policy);
	return 0;
}

static int kvm_memtype_param_get(char *buffer, const struct kernel_param *param)
{
	bool legacy = READ_ONCE(kvm_memtype_default_policy) == KVM_MEMTYPE_POLICY_LEGACY;

	return sprintf(buffer, "%s\n", legacy ? "legacy" : "honor");
}

static const struct kernel_param_ops kvm_memtype_param_ops = {
	.set = kvm_memtype_param_set,
	.get = kvm_memtype_param_get,
};

module_param_cb(guest_memtype, &kvm_memtype_param_ops, NULL, 0644);
MODULE_PARM_DESC(guest_memtype,
		 "Policy of VMs that are created from now on: honor the guest's memory types (default) or legacy");

/*
 * Whether a guest's choice for RAM counts, and if not, because of what.
 *
 * @control and @legacy_forces are the architecture's: what its CPU does, and
 * what KVM did before this layer. @slot_forces: the memslot has KVM_MEM_FORCE_WB.
 */
static u8 kvm_memtype_ram_source(enum kvm_memtype_control control, u8 policy, bool legacy_forces,
				 bool slot_forces, bool noncoherent_dma)
{
	if (control == KVM_MEMTYPE_CONTROL_HOST)
		return KVM_MEMTYPE_SOURCE_CPU;

	/*
	 * A guest has to flush or bypass CPU caches for a device that does not
	 * snoop them, which works only with the types that it asks for.
	 */
	if (noncoherent_dma)
		return KVM_MEMTYPE_SOURCE_RAM;

	/* The host's cached aliases would not be coherent with the guest. */
	if (control == KVM_MEMTYPE_CONTROL_UNSAFE)
		return KVM_MEMTYPE_SOURCE_CPU;

	if (slot_forces)
		return KVM_MEMTYPE_SOURCE_SLOT;

	if (policy == KVM_MEMTYPE_POLICY_LEGACY && legacy_forces)
		return KVM_MEMTYPE_SOURCE_POLICY;

	return KVM_MEMTYPE_SOURCE_RAM;
}

/* Faults must be cheap, so kvm_memtype_fault_ram() has what cannot change any more. */
static void kvm_memtype_set_policy(struct kvm *kvm, u8 policy, enum kvm_memtype_control control)
{
	bool constant = control == KVM_MEMTYPE_CONTROL_HOST ||
			(control == KVM_MEMTYPE_CONTROL_GUEST &&
			 policy != KVM_MEMTYPE_POLICY_LEGACY);

	WRITE_ONCE(kvm->memtype.policy, policy);
	WRITE_ONCE(kvm->memtype.ram_source,
		   constant ? kvm_memtype_ram_source(control, policy, false, false, false) :
			      KVM_MEMTYPE_SOURCE_NONE);
}

/**
 * kvm_memtype_init_vm - give a new VM the host's default policy
 * @kvm: the VM, which nobody else can reach yet
 *
 * Context: Any.
 */
void kvm_memtype_init_vm(struct kvm *kvm)
{
	mutex_init(&kvm->memtype.caches_lock);
	kvm_memtype_set_policy(kvm, READ_ONCE(kvm_memtype_default_policy),
			       kvm_arch_memtype_control(NULL));
}

/**
 * kvm_memtype_policy - the policy of a VM
 * @kvm: the VM; NULL for one with the host's defaults
 *
 * Context: Any. It may change until the VM has a vCPU.
 * Return: KVM_MEMTYPE_POLICY_*.
 */
u8 kvm_memtype_policy(struct kvm *kvm)
{
	return kvm ? READ_ONCE(kvm->memtype.policy) : READ_ONCE(kvm_memtype_default_policy);
}

/**
 * kvm_memtype_is_legacy - whether KVM is to choose as it did before this layer
 * @kvm: the VM; NULL for one with the host's default policy
 *
 * Context: Any.
 * Return: Whether its policy is KVM_MEMTYPE_POLICY_LEGACY. Constant once the VM has a vCPU.
 */
bool kvm_memtype_is_legacy(struct kvm *kvm)
{
	return kvm_memtype_policy(kvm) == KVM_MEMTYPE_POLICY_LEGACY;
}

/**
 * kvm_memtype_enable_cap - choose the policy of a VM
 * @kvm: the VM
 * @cap: args[0] is one of KVM_MEMTYPE_POLICY_*, all else is 0
 *
 * Context: Process context. Takes kvm->lock and kvm->slots_lock.
 * Return: 0; -EINVAL for anything unknown, for a VM about which KVM does not
 * decide, and for KVM_MEMTYPE_POLICY_STAGE1 where it cannot be had; -EBUSY if the
 * VM already has a vCPU. After an error the policy is as before.
 */
int kvm_memtype_enable_cap(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	u64 policy = cap->args[0];
	int ret = 0;

	if (cap->flags || memchr_inv(&cap->args[1], 0, sizeof(cap->args) - sizeof(cap->args[0])) ||
	    memchr_inv(cap->pad, 0, sizeof(cap->pad)))
		return -EINVAL;
	if (policy != KVM_MEMTYPE_POLICY_HONOR && policy != KVM_MEMTYPE_POLICY_LEGACY &&
	    policy != KVM_MEMTYPE_POLICY_STAGE1)
		return -EINVAL;
	if (!kvm_arch_memtype_decides(kvm))
		return -EINVAL;

	mutex_lock(&kvm->lock);
	/* Which memslots there are may be a reason against stage-1 mode. */
	mutex_lock(&kvm->slots_lock);
	if (kvm->created_vcpus) {
		ret = -EBUSY;
	} else if (policy == KVM_MEMTYPE_POLICY_STAGE1 && !kvm_arch_memtype_has_stage1(kvm)) {
		ret = -EINVAL;
	} else {
		kvm_arch_memtype_set_stage1(kvm, policy == KVM_MEMTYPE_POLICY_STAGE1);
		kvm_memtype_set_policy(kvm, policy, kvm_arch_memtype_control(kvm));
		trace_kvm_memtype_policy(policy, kvm_arch_has_noncoherent_dma(kvm), false);
	}
	mutex_unlock(&kvm->slots_lock);
	mutex_unlock(&kvm->lock);
	return ret;
}

/**
 * kvm_memtype_slot_flags - the memslot flags of this layer
 * @kvm: the VM
 *
 * Context: Any.
 * Return: KVM_MEM_FORCE_WB where KVM can ignore a guest's choice, or 0.
 */
u32 kvm_memtype_slot_flags(struct kvm *kvm)
{
	return kvm_arch_memtype_can_force(kvm) ? KVM_MEM_FORCE_WB : 0;
}

static struct kvm_memtype_intent kvm_memtype_refusal(u8 refusal)
{
	return (struct kvm_memtype_intent) { .refusal = refusal };
}

/*
 * For what the host does not cache. It is never granted as write-back, whatever
 * slot and policy say: a guest's cached access can be a machine check, and to memory
 * it would be a cached alias that the host's owner of the page did not expect.
 */
static struct kvm_memtype_intent kvm_memtype_decide_uncached(struct kvm_memtype_host host)
{
	struct kvm_memtype_intent intent = {
		.source = host.mmio ? KVM_MEMTYPE_SOURCE_MMIO : KVM_MEMTYPE_SOURCE_PTE,
	};

	switch (host.kind) {
	case MEMTYPE_WT:
	case MEMTYPE_WP:
		intent.kind = host.kind;
		break;
	case MEMTYPE_WC:
		if (!host.mmio) {
			intent.kind = MEMTYPE_WC;
			break;
		}
		/* A device's registers may be behind it. */
		fallthrough;
	default:
		intent.kind = MEMTYPE_UC;
		intent.any_uncached = host.any_uncached;
		break;
	}
	return intent;
}

/**
 * kvm_memtype_apply_vma - what follows from the flags of a VMA
 * @kvm: the VM; NULL for a new one
 * @vm_flags: the flags
 * @host: all else that the page is to the host; any_uncached and untagged are set
 *
 * Context: Any.
 */
void kvm_memtype_apply_vma(struct kvm *kvm, unsigned long vm_flags, struct kvm_memtype_host *host)
{
	host->any_uncached = kvm_arch_memtype_any_uncached(vm_flags);
	host->untagged = kvm_arch_memtype_needs_tags(kvm) &&
			 (host->mmio || !(vm_flags & VM_MTE_ALLOWED));
}

/**
 * kvm_memtype_decide - which memory type a guest is granted for a page
 * @kvm: the VM; NULL for one with the host's default policy and no devices
 * @slot: the memslot; NULL for one without flags
 * @host: what the page is to the host
 *
 * Context: Any.
 * Return: The intent.
 */
struct kvm_memtype_intent kvm_memtype_decide(struct kvm *kvm, const struct kvm_memory_slot *slot,
					     struct kvm_memtype_host host)
{
	struct kvm_memtype_intent intent = { .kind = MEMTYPE_WB };

	if ((host.mmio || host.kind != MEMTYPE_WB) && kvm_arch_memtype_only_ram())
		return kvm_memtype_refusal(KVM_MEMTYPE_REFUSAL_HYPERVISOR);
	if (host.mmio && (host.kind == MEMTYPE_WB || host.kind == MEMTYPE_WT ||
			  host.kind == MEMTYPE_WP)) {
		enum kvm_memtype_mmio mmio = kvm_arch_memtype_cached_mmio(kvm);

		if (mmio == KVM_MEMTYPE_MMIO_REFUSED)
			return kvm_memtype_refusal(KVM_MEMTYPE_REFUSAL_CACHEABLE);
		if (mmio == KVM_MEMTYPE_MMIO_UC)
			host.kind = MEMTYPE_UC;
	}
	if (host.kind != MEMTYPE_WB)
		return kvm_memtype_decide_uncached(host);
	if (host.untagged)
		return kvm_memtype_refusal(KVM_MEMTYPE_REFUSAL_MTE);

	intent.source = kvm_memtype_ram_source(kvm_arch_memtype_control(kvm),
					       kvm_memtype_policy(kvm),
					       kvm_arch_memtype_legacy_forces(kvm),
					       slot && slot->flags & KVM_MEM_FORCE_WB,
					       kvm && kvm_arch_has_noncoherent_dma(kvm));
	intent.forced = intent.source != KVM_MEMTYPE_SOURCE_RAM;
	return intent;
}

static void kvm_memtype_count(struct kvm_vcpu *vcpu, const struct kvm_memtype_intent *intent)
{
	struct kvm_vcpu_stat_generic *stat = &vcpu->stat.generic;

	if (intent->forced)
		stat->memtype_forced_wb++;
	else if (intent->kind == MEMTYPE_WB)
		stat->memtype_wb++;
	else if (intent->kind == MEMTYPE_UC)
		stat->memtype_uc++;
	else
		stat->memtype_wc++;
}

/**
 * kvm_memtype_refuse - end KVM_RUN because a page cannot be mapped
 * @vcpu: the vCPU that faults
 * @gfn: guest frame number, in pages
 * @refusal: KVM_MEMTYPE_REFUSAL_*
 *
 * Context: Any; of the vCPU's own task.
 * Return: -EFAULT, with which KVM_RUN is to fail, or whoever else maps memory in
 * advance. The vCPU's exit reason is KVM_EXIT_MEMORY_FAULT, with the flag
 * KVM_MEMTYPE_EXIT_REFUSED; without one VMMs take it for a conversion to shared memory.
 */
int kvm_memtype_refuse(struct kvm_vcpu *vcpu, u64 gfn, u8 refusal)
{
	vcpu->stat.generic.memtype_refused++;
	trace_kvm_memtype_refuse(gfn, refusal);
	kvm_prepare_memory_fault_exit(vcpu, gfn_to_gpa(gfn), PAGE_SIZE, false, false, false);
	vcpu->run->memory_fault.flags |= KVM_MEMTYPE_EXIT_REFUSED;
	return -EFAULT;
}

/* Of the errors that a kvm_pfn_t can be: the host has no memory for the page. */
#define KVM_MEMTYPE_PFN_ERR_NOMEM	(KVM_PFN_ERR_MASK + 0x4d54)

/**
 * kvm_memtype_error_pfn - an error of the host's fault handler as a kvm_pfn_t
 * @error: of get_user_pages() or fixup_user_fault()
 *
 * Context: Any.
 * Return: KVM_PFN_ERR_SIGPENDING of -EINTR; what kvm_memtype_no_page() knows of -ENOMEM;
 * else KVM_PFN_ERR_FAULT.
 */
u64 kvm_memtype_error_pfn(int error)
{
	if (error == -EINTR)
		return KVM_PFN_ERR_SIGPENDING;
	return error == -ENOMEM ? KVM_MEMTYPE_PFN_ERR_NOMEM : KVM_PFN_ERR_FAULT;
}

/**
 * kvm_memtype_no_page - end KVM_RUN because the host has not given a page
 * @vcpu: the vCPU that faults
 * @gfn: guest frame number, in pages
 * @mmu_seq: kvm->mmu_invalidate_seq before the host was asked
 * @pfn: the error, KVM_PFN_ERR_*
 *
 * A signal or a lack of memory says nothing about the page, so it is no refusal. Nor
 * is it one if the host's mapping has changed meanwhile.
 *
 * Context: Any; of the vCPU's own task.
 * Return: 1 if the guest is to try again; else what KVM_RUN is to fail with: -EINTR
 * after a signal, or -EFAULT; after anything but a signal and a lack of memory, as
 * kvm_memtype_refuse().
 */
int kvm_memtype_no_page(struct kvm_vcpu *vcpu, u64 gfn, unsigned long mmu_seq, u64 pfn)
{
	if (is_sigpending_pfn(pfn)) {
		kvm_handle_signal_exit(vcpu);
		return -EINTR;
	}
	if (pfn == KVM_MEMTYPE_PFN_ERR_NOMEM) {
		/* A page that was to be mapped in advance may have left its own. */
		vcpu->run->exit_reason = KVM_EXIT_UNKNOWN;
		return -EFAULT;
	}
	if (mmu_invalidate_retry_gfn_unsafe(vcpu->kvm, mmu_seq, gfn))
		return 1;
	return kvm_memtype_refuse(vcpu, gfn, KVM_MEMTYPE_REFUSAL_UNMAPPED);
}

/**
 * kvm_memtype_fault - which memory type to map a page with
 * @vcpu: the vCPU that faults
 * @slot: the memslot
 * @gfn: guest frame number, in pages
 * @host: what the page is to the host
 *
 * Context: Any; in a fault handler after the mmu_invalidate_seq snapshot or
 * under mmu_lock, so that a change of the policy's inputs zaps what was mapped.
 * Return: The intent. If that is a refusal, KVM_RUN must fail with -EFAULT, for
 * which kvm_memtype_refuse() was called.
 */
struct kvm_memtype_intent kvm_memtype_fault(struct kvm_vcpu *vcpu,
					    const struct kvm_memory_slot *slot, u64 gfn,
					    struct kvm_memtype_host host)
{
	struct kvm_memtype_intent intent = kvm_memtype_decide(vcpu->kvm, slot, host);

	if (unlikely(intent.refusal)) {
		kvm_memtype_refuse(vcpu, gfn, intent.refusal);
		return intent;
	}

	kvm_memtype_count(vcpu, &intent);
	trace_kvm_memtype_map(gfn, host.kind, &intent);
	return intent;
}

static noinline bool kvm_memtype_fault_ram_slow(struct kvm_vcpu *vcpu,
						const struct kvm_memory_slot *slot, u64 gfn)
{
	const struct kvm_memtype_host ram = { .kind = MEMTYPE_WB };

	return kvm_memtype_fault(vcpu, slot, gfn, ram).forced;
}

/**
 * kvm_memtype_fault_ram - kvm_memtype_fault() for memory that the host caches
 * @vcpu: the vCPU that faults
 * @slot: the memslot
 * @gfn: guest frame number, in pages
 *
 * Nearly all faults are for such memory, so this costs next to nothing as long as
 * no more than the VM's policy has a say and nobody traces.
 *
 * Context: As kvm_memtype_fault().
 * Return: Whether the guest's choice is ignored.
 */
bool kvm_memtype_fault_ram(struct kvm_vcpu *vcpu, const struct kvm_memory_slot *slot, u64 gfn)
{
	u8 source = READ_ONCE(vcpu->kvm->memtype.ram_source);

	if (unlikely(source == KVM_MEMTYPE_SOURCE_NONE ||
		     (slot && slot->flags & KVM_MEM_FORCE_WB) || trace_kvm_memtype_map_enabled()))
		return kvm_memtype_fault_ram_slow(vcpu, slot, gfn);

	if (source == KVM_MEMTYPE_SOURCE_RAM) {
		vcpu->stat.generic.memtype_wb++;
		return false;
	}
	vcpu->stat.generic.memtype_forced_wb++;
	return true;
}

static bool kvm_memtype_has_forced_slot(struct kvm *kvm)
{
	struct kvm_memory_slot *slot;
	bool found = false;
	int idx, i, bkt;

	idx = srcu_read_lock(&kvm->srcu);
	for (i = 0; i < kvm_arch_nr_memslot_as_ids(kvm); i++) {
		kvm_for_each_memslot(slot, bkt, __kvm_memslots(kvm, i))
			found |= slot->flags & KVM_MEM_FORCE_WB;
	}
	srcu_read_unlock(&kvm->srcu, idx);
	return found;
}

/**
 * kvm_memtype_dma_changed - a VM got its first non-coherent device, or lost its last
 * @kvm: the VM, for which kvm_arch_has_noncoherent_dma() has changed already
 *
 * Context: Process context. Takes kvm->srcu.
 * Return: Whether that changes the encoding of any page, so that all that is
 * mapped must be zapped. A memslot that is added meanwhile is mapped as it is now.
 */
bool kvm_memtype_dma_changed(struct kvm *kvm)
{
	enum kvm_memtype_control control = kvm_arch_memtype_control(kvm);
	bool forces = kvm_arch_memtype_legacy_forces(kvm);
	bool slot_forces = kvm_memtype_has_forced_slot(kvm);
	u8 policy = kvm_memtype_policy(kvm);
	bool zap;

	zap = kvm_memtype_ram_source(control, policy, forces, slot_forces, true) !=
	      kvm_memtype_ram_source(control, policy, forces, slot_forces, false);
	trace_kvm_memtype_policy(policy, kvm_arch_has_noncoherent_dma(kvm), zap);
	return zap;
}

#ifdef CONFIG_KVM_MEMTYPE_KUNIT_TEST
#include "memtype_kunit.c"
#endif
