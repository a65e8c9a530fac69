// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest memory types: the policy, and what userspace sees of it.
 *
 * kvm_memtype_decide() is the only place that decides which type a guest is
 * granted. It depends on the host's type of the page, on what the CPU does with
 * a guest's choice, on the VM's policy and on whether the VM has non-coherent
 * DMA. Faults (kvm_memtype_fault()) and KVM_GET_MEMTYPE both ask it, so that an
 * answer is what a fault would do. It takes no lock and remembers nothing.
 *
 * An architecture turns the intent into second-stage attributes, and knows how
 * the CPU combines those with the guest's own choice.
 */
#include <linux/kvm_host.h>
#include <linux/kvm_memtype.h>
#include <linux/moduleparam.h>
#include <linux/string.h>
#include <linux/uaccess.h>

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

/**
 * kvm_memtype_init_vm - give a new VM the host's default policy
 * @kvm: the VM, which nobody else can reach yet
 *
 * Context: Any.
 */
void kvm_memtype_init_vm(struct kvm *kvm)
{
	kvm->memtype.policy = READ_ONCE(kvm_memtype_default_policy);
}

/**
 * kvm_memtype_enable_cap - choose the policy of a VM
 * @kvm: the VM
 * @cap: args[0] is one of KVM_MEMTYPE_POLICY_*, all else is 0
 *
 * Context: Process context. Takes kvm->lock.
 * Return: 0; -EINVAL for anything unknown, -EBUSY if the VM already has a vCPU.
 * After an error the policy is as before.
 */
int kvm_memtype_enable_cap(struct kvm *kvm, const struct kvm_enable_cap *cap)
{
	u64 policy = cap->args[0];
	int ret = 0;

	if (cap->flags || memchr_inv(&cap->args[1], 0, sizeof(cap->args) - sizeof(cap->args[0])) ||
	    memchr_inv(cap->pad, 0, sizeof(cap->pad)))
		return -EINVAL;
	if (policy != KVM_MEMTYPE_POLICY_HONOR && policy != KVM_MEMTYPE_POLICY_LEGACY)
		return -EINVAL;

	mutex_lock(&kvm->lock);
	if (kvm->created_vcpus)
		ret = -EBUSY;
	else
		WRITE_ONCE(kvm->memtype.policy, policy);
	mutex_unlock(&kvm->lock);
	return ret;
}

/*
 * Whether a guest's choice for RAM counts, and if not, because of what.
 *
 * @control and @legacy_forces are the architecture's: what its CPU does, and
 * what KVM did before this layer.
 */
static u8 kvm_memtype_ram_source(enum kvm_memtype_control control, u8 policy,
				 bool legacy_forces, bool noncoherent_dma)
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

	if (policy == KVM_MEMTYPE_POLICY_LEGACY && legacy_forces)
		return KVM_MEMTYPE_SOURCE_POLICY;

	return KVM_MEMTYPE_SOURCE_RAM;
}

/*
 * Which type a guest of @kvm is granted for a page of the host's type @host; a
 * @kvm of NULL has the host's default policy and no devices.
 *
 * MMIO is never granted as write-back, whatever the policy says: a guest's cached
 * access can be a machine check.
 */
static struct kvm_memtype_intent kvm_memtype_decide(struct kvm *kvm, struct memtype_host host)
{
	struct kvm_memtype_intent intent = {
		.kind = host.kind,
		.any_uncached = host.any_uncached,
		.source = KVM_MEMTYPE_SOURCE_MMIO,
	};

	if (host.kind != MEMTYPE_WB)
		return intent;

	intent.source = kvm_memtype_ram_source(kvm_arch_memtype_control(),
					       kvm ? READ_ONCE(kvm->memtype.policy) :
						     READ_ONCE(kvm_memtype_default_policy),
					       kvm_arch_memtype_legacy_forces(kvm),
					       kvm && kvm_arch_has_noncoherent_dma(kvm));
	intent.forced = intent.source != KVM_MEMTYPE_SOURCE_RAM;
	return intent;
}

/**
 * kvm_memtype_fault - which memory type to map a page with
 * @kvm: the VM
 * @gfn: guest frame number, in pages
 * @host: the host's type of the page
 *
 * Context: Any; in a fault handler after the mmu_invalidate_seq snapshot or
 * under mmu_lock, so that a change of the policy's inputs zaps what was mapped.
 * Return: The intent.
 */
struct kvm_memtype_intent kvm_memtype_fault(struct kvm *kvm, u64 gfn, struct memtype_host host)
{
	struct kvm_memtype_intent intent = kvm_memtype_decide(kvm, host);

	trace_kvm_memtype_map(gfn, &intent);
	return intent;
}

/**
 * kvm_memtype_check_cap - the value of KVM_CAP_MEMTYPE
 * @kvm: the VM that is asked about; NULL for one with the host's defaults
 *
 * Context: Any.
 * Return: A bitmap of KVM_MEMTYPE_CAP_*.
 */
int kvm_memtype_check_cap(struct kvm *kvm)
{
	struct kvm_memtype_intent ram = kvm_memtype_decide(kvm, memtype_of_page(false, false));
	struct kvm_memtype_intent mmio = kvm_memtype_decide(kvm, memtype_of_page(true, true));
	int caps = KVM_MEMTYPE_CAP_QUERY;

	if (!ram.forced)
		caps |= KVM_MEMTYPE_CAP_HONOR;
	if (kvm_arch_memtype_effective(&ram, MEMTYPE_WC) == MEMTYPE_WC ||
	    kvm_arch_memtype_effective(&mmio, MEMTYPE_WC) == MEMTYPE_WC)
		caps |= KVM_MEMTYPE_CAP_WC;
	return caps;
}

/* Fills in the outputs of @query for a page of the host's type @host. */
static void kvm_memtype_answer(struct kvm *kvm, struct kvm_memtype *query,
			       struct memtype_host host)
{
	struct kvm_memtype_intent intent = kvm_memtype_decide(kvm, host);
	enum memtype_kind guest;

	query->host = host.kind;
	query->intent = intent.kind;
	query->source = intent.source;
	if (intent.forced)
		query->attributes |= KVM_MEMTYPE_ATTR_FORCED;
	if (intent.any_uncached)
		query->attributes |= KVM_MEMTYPE_ATTR_ANY_UNCACHED;
	if (kvm_arch_memtype_noexec(&intent))
		query->attributes |= KVM_MEMTYPE_ATTR_NOEXEC;
	for (guest = MEMTYPE_WB; guest < NR_MEMTYPES; guest++)
		query->effective[guest] = kvm_arch_memtype_effective(&intent, guest);
}

static int kvm_memtype_query(struct kvm *kvm, struct kvm_memtype *query)
{
	gfn_t gfn = gpa_to_gfn(query->gpa);
	struct memtype_mapping map = {};
	struct kvm_memory_slot *slot;
	bool mmio;

	slot = __gfn_to_memslot(__kvm_memslots(kvm, query->as_id), gfn);
	if (!slot || (slot->flags & KVM_MEMSLOT_INVALID))
		return -ENOENT;

	if (kvm_mem_is_private(kvm, gfn)) {
		/* guest_memfd is RAM that no process maps. */
		if (kvm_slot_can_be_private(slot))
			kvm_memtype_answer(kvm, query, memtype_of_page(false, false));
		else
			query->refusal = KVM_MEMTYPE_REFUSAL_UNMAPPED;
		return 0;
	}

	if (memtype_find_mapping(__gfn_to_hva_memslot(slot, gfn), &map)) {
		query->refusal = KVM_MEMTYPE_REFUSAL_UNMAPPED;
		return 0;
	}

	/* What a driver will put into a mapping of page frames is taken for MMIO. */
	mmio = map.present ? kvm_arch_memtype_is_mmio(map.pfn) : map.pfnmap;
	if (!map.certain)
		query->attributes |= KVM_MEMTYPE_ATTR_PREDICTED;
	kvm_memtype_answer(kvm, query, memtype_of_page(mmio, map.any_uncached));
	return 0;
}

/**
 * kvm_memtype_vm_ioctl - KVM_GET_MEMTYPE, the memory type of a guest page
 * @kvm: the VM
 * @ioctl: number
 * @argp: struct kvm_memtype in user space
 *
 * Maps nothing, neither in the guest nor in the host.
 *
 * Context: Process context of the VM's mm. Takes kvm->srcu and, within it,
 * mmap_lock for reading.
 * Return: 0; -EINVAL for an unknown flag, a non-zero padding or an address space
 * that the VM does not have; -ENOENT if no memslot is at the address; -EFAULT
 * for a bad pointer; -ENOTTY if the ioctl is another one, which the caller then
 * leaves to the architecture. After an error the argument is as before.
 */
long kvm_memtype_vm_ioctl(struct kvm *kvm, unsigned int ioctl, void __user *argp)
{
	struct kvm_memtype query, answer = {};
	int idx, ret;

	if (ioctl != KVM_GET_MEMTYPE)
		return -ENOTTY;
	if (copy_from_user(&query, argp, sizeof(query)))
		return -EFAULT;
	if (query.flags || memchr_inv(query.padding, 0, sizeof(query.padding)) ||
	    query.as_id >= kvm_arch_nr_memslot_as_ids(kvm))
		return -EINVAL;

	answer.gpa = query.gpa;
	answer.as_id = query.as_id;
	idx = srcu_read_lock(&kvm->srcu);
	ret = kvm_memtype_query(kvm, &answer);
	srcu_read_unlock(&kvm->srcu, idx);
	if (ret)
		return ret;

	return copy_to_user(argp, &answer, sizeof(answer)) ? -EFAULT : 0;
}

#ifdef CONFIG_KVM_MEMTYPE_KUNIT_TEST
#include "memtype_kunit.c"
#endif
