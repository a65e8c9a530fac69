// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest memory types: what userspace is told, by KVM_CAP_MEMTYPE, KVM_GET_MEMTYPE and debugfs.
 *
 * What a page gets is what a fault would get, because both ask kvm_memtype_decide().
 */
#include <linux/debugfs.h>
#include <linux/kvm_host.h>
#include <linux/kvm_memtype.h>
#include <linux/kvm_memtype_base.h>
#include <linux/memtype.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/uaccess.h>

/**
 * kvm_memtype_check_cap - the value of KVM_CAP_MEMTYPE
 * @kvm: the VM that is asked about; NULL for one with the host's defaults
 *
 * Context: Any.
 * Return: A bitmap of KVM_MEMTYPE_CAP_*; 0 if KVM does not decide about the VM.
 */
int kvm_memtype_check_cap(struct kvm *kvm)
{
	const struct kvm_memtype_host memory = { .kind = MEMTYPE_WB };
	const struct kvm_memtype_host device = {
		.kind = MEMTYPE_UC, .mmio = true, .any_uncached = true,
	};
	struct kvm_memtype_intent ram, mmio;
	int caps = KVM_MEMTYPE_CAP_QUERY;

	if (!kvm_arch_memtype_decides(kvm))
		return 0;
	ram = kvm_memtype_decide(kvm, NULL, memory);
	mmio = kvm_memtype_decide(kvm, NULL, device);
	if (!ram.forced)
		caps |= KVM_MEMTYPE_CAP_HONOR;
	if (kvm_arch_memtype_effective(kvm, &memory, &ram, MEMTYPE_WC) == MEMTYPE_WC ||
	    (!mmio.refusal &&
	     kvm_arch_memtype_effective(kvm, &device, &mmio, MEMTYPE_WC) == MEMTYPE_WC))
		caps |= KVM_MEMTYPE_CAP_WC;
	if (kvm_arch_memtype_cached_mmio(kvm) == KVM_MEMTYPE_MMIO_CACHED)
		caps |= KVM_MEMTYPE_CAP_CACHEABLE_PFNMAP;
	if (kvm_arch_memtype_can_force(kvm))
		caps |= KVM_MEMTYPE_CAP_FORCE_WB;
	if (kvm_arch_memtype_has_stage1(kvm))
		caps |= KVM_MEMTYPE_CAP_STAGE1;
	return caps;
}

/* Fills in the outputs of @query for a page that is @host to the host. */
static void kvm_memtype_answer(struct kvm *kvm, const struct kvm_memory_slot *slot,
			       struct kvm_memtype *query, struct kvm_memtype_host host)
{
	struct kvm_memtype_intent intent = kvm_memtype_decide(kvm, slot, host);
	enum memtype_kind guest;

	query->refusal = intent.refusal;
	/* A prediction stays one: the driver may map something else. */
	if (intent.refusal)
		return;
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
		query->effective[guest] = kvm_arch_memtype_effective(kvm, &host, &intent, guest);
}

/*
 * Fills in the outputs of @query for @gfn in @slot, and returns the gfn up to
 * which they hold.
 */
static gfn_t kvm_memtype_look(struct kvm *kvm, const struct kvm_memory_slot *slot, gfn_t gfn,
			      struct kvm_memtype *query)
{
	unsigned long addr = __gfn_to_hva_memslot(slot, gfn);
	struct kvm_memtype_host host = { .kind = MEMTYPE_WB };
	struct memtype_mapping map;

	/* guest_memfd is RAM, mapped by a process or not, and whatever is at the address. */
	if (kvm_memslot_is_gmem_only(slot)) {
		kvm_memtype_answer(kvm, slot, query, host);
		return slot->base_gfn + slot->npages;
	}
	if (kvm_mem_is_private(kvm, gfn)) {
		if (kvm_slot_has_gmem(slot))
			kvm_memtype_answer(kvm, slot, query, host);
		else
			query->refusal = KVM_MEMTYPE_REFUSAL_UNMAPPED;
		return gfn + 1;
	}

	if (memtype_find_mapping(kvm->mm, addr, &map)) {
		query->refusal = KVM_MEMTYPE_REFUSAL_UNMAPPED;
	} else {
		/* What a driver will put into a mapping of page frames is taken for MMIO. */
		if (map.present)
			host = kvm_arch_memtype_host(kvm, &map);
		else if (map.pfnmap)
			host = (struct kvm_memtype_host) { .kind = MEMTYPE_UC, .mmio = true };
		kvm_memtype_apply_vma(kvm, map.flags, &host);
		if (!map.certain)
			query->attributes |= KVM_MEMTYPE_ATTR_PREDICTED;
		kvm_memtype_answer(kvm, slot, query, host);
	}

	/* Which pages are private can change from one to the next. */
	if (kvm_arch_has_private_mem(kvm))
		return gfn + 1;
	return min(gfn + ((map.end - addr - 1) >> PAGE_SHIFT) + 1, slot->base_gfn + slot->npages);
}

/* So many pages are looked at while a change of the memslots has to wait. */
#define KVM_MEMTYPE_LOOKS	128

static int kvm_memtype_query(struct kvm *kvm, struct kvm_memtype *query)
{
	gfn_t gfn = gpa_to_gfn(query->gpa);
	struct kvm_memory_slot *slot;
	int looks;

	slot = __gfn_to_memslot(__kvm_memslots(kvm, query->as_id), gfn);
	if (!slot || (slot->flags & KVM_MEMSLOT_INVALID))
		return -ENOENT;

	gfn = kvm_memtype_look(kvm, slot, gfn, query);
	for (looks = 1; looks < KVM_MEMTYPE_LOOKS && gfn < slot->base_gfn + slot->npages;
	     looks++) {
		struct kvm_memtype more = { .gpa = query->gpa, .as_id = query->as_id };
		gfn_t next = kvm_memtype_look(kvm, slot, gfn, &more);

		if (memcmp(query, &more, sizeof(more)) || fatal_signal_pending(current))
			break;
		gfn = next;
	}
	query->end = gfn_to_gpa(gfn);
	return 0;
}

/**
 * kvm_vm_ioctl_get_memtype - KVM_GET_MEMTYPE, the memory type of a guest page
 * @kvm: the VM
 * @argp: struct kvm_memtype in user space
 *
 * Maps nothing, neither in the guest nor in the host.
 *
 * Context: Process context. Takes kvm->srcu and, within it, the mmap_lock of the
 * VM's mm for reading.
 * Return: 0; -EINVAL for an unknown flag, a non-zero padding, an address space
 * that the VM does not have, or a VM about which KVM does not decide; -ENOENT if
 * no memslot is at the address; -EFAULT for a bad pointer. After an error the
 * argument is as before.
 */
long kvm_vm_ioctl_get_memtype(struct kvm *kvm, void __user *argp)
{
	struct kvm_memtype query, answer = {};
	int idx, ret;

	if (copy_from_user(&query, argp, sizeof(query)))
		return -EFAULT;
	if (query.flags || query.padding || query.as_id >= kvm_arch_nr_memslot_as_ids(kvm) ||
	    !kvm_arch_memtype_decides(kvm))
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

static const char * const kvm_memtype_kind_names[NR_MEMTYPES] = {
	"none", "WB", "WT", "WP", "WC", "UC-", "UC", "GRE", "nGRE", "nGnRnE",
};

static const char * const kvm_memtype_source_names[] = {
	"none", "RAM", "MMIO", "policy", "CPU", "PTE", "slot",
};

static_assert(ARRAY_SIZE(kvm_memtype_source_names) == KVM_MEMTYPE_SOURCE_SLOT + 1);

static const char * const kvm_memtype_refusal_names[] = {
	"none", "unmapped", "cacheable", "MTE", "hypervisor",
};

static_assert(ARRAY_SIZE(kvm_memtype_refusal_names) == KVM_MEMTYPE_REFUSAL_HYPERVISOR + 1);

static const char *kvm_memtype_policy_name(u8 policy)
{
	if (policy == KVM_MEMTYPE_POLICY_LEGACY)
		return "legacy";
	return policy == KVM_MEMTYPE_POLICY_STAGE1 ? "stage1" : "honor";
}

/* The types that a guest can get, each once. */
static void kvm_memtype_name_effective(char *names, size_t size, const struct kvm_memtype *query)
{
	enum memtype_kind kind, guest;
	size_t length = 0;

	scnprintf(names, size, "none");
	for (kind = MEMTYPE_WB; kind < NR_MEMTYPES; kind++) {
		for (guest = MEMTYPE_WB; guest < NR_MEMTYPES; guest++) {
			if (query->effective[guest] == kind) {
				length += scnprintf(names + length, size - length, "%s%s",
						    length ? "," : "",
						    kvm_memtype_kind_names[kind]);
				break;
			}
		}
	}
}

/* The line of the table that is being made; @query has all but its address. */
struct kvm_memtype_range {
	struct kvm_memtype query;
	gfn_t start, end;
	int slot_id;
};

static void kvm_memtype_show_range(struct seq_file *file, struct kvm *kvm,
				   const struct kvm_memtype_range *range)
{
	static const char * const names[] = {
		"forced", "any-uncached", "noexec", "predicted",
	};
	const struct kvm_memtype *query = &range->query;
	char attributes[48] = "-", effective[40];
	s64 pages, mapped = 0;
	size_t length = 0;
	gfn_t gfn, next;
	int i;

	if (range->start == range->end)
		return;
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		if (query->attributes & BIT(i))
			length += scnprintf(attributes + length, sizeof(attributes) - length,
					    "%s%s", length ? "," : "", names[i]);
	}
	kvm_memtype_name_effective(effective, sizeof(effective), query);
	seq_printf(file, "%-2u 0x%016llx 0x%016llx %-4d %-4s %-6s %-16s %-6s %-24s %-10s ",
		   query->as_id, gfn_to_gpa(range->start), gfn_to_gpa(range->end),
		   range->slot_id, kvm_memtype_kind_names[query->host],
		   kvm_memtype_kind_names[query->intent], effective,
		   kvm_memtype_source_names[query->source], attributes,
		   kvm_memtype_refusal_names[query->refusal]);

	/* Faults and changes of the memslots wait for the lock that this takes each time. */
	for (gfn = range->start; gfn < range->end; gfn = next) {
		next = min(ALIGN(gfn + 1, SZ_32M >> PAGE_SHIFT), range->end);
		pages = kvm_arch_memtype_mapped(kvm, query->as_id, gfn, next);
		if (pages < 0) {
			seq_puts(file, "-\n");
			return;
		}
		mapped += pages;
		if (fatal_signal_pending(current))
			return;
		cond_resched();
	}
	seq_printf(file, "%lld\n", mapped << (PAGE_SHIFT - 10));
}

/*
 * Extends @range by pages from @gfn on that are like it. Returns whether it is complete;
 * then @next is what follows, or empty if nothing does. Else @range is to be extended
 * from its end on.
 */
static bool kvm_memtype_extend(struct kvm *kvm, int as_id, gfn_t gfn,
			       struct kvm_memtype_range *range, struct kvm_memtype_range *next)
{
	struct kvm_memory_slot *slot;
	struct kvm_memslot_iter iter;
	int looks = 0;

	kvm_for_each_memslot_in_gfn_range(&iter, __kvm_memslots(kvm, as_id), gfn, ~0ULL) {
		slot = iter.slot;
		if (slot->flags & KVM_MEMSLOT_INVALID)
			continue;

		for (gfn = max(gfn, slot->base_gfn); gfn < slot->base_gfn + slot->npages;
		     gfn = next->end) {
			if (looks++ == KVM_MEMTYPE_LOOKS)
				return false;
			*next = (struct kvm_memtype_range) {
				.query.as_id = as_id, .start = gfn, .slot_id = slot->id,
			};
			next->end = kvm_memtype_look(kvm, slot, gfn, &next->query);
			if (range->start == range->end)
				*range = *next;
			else if (range->end == next->start && range->slot_id == next->slot_id &&
				 !memcmp(&range->query, &next->query, sizeof(next->query)))
				range->end = next->end;
			else
				return true;
		}
	}
	*next = (struct kvm_memtype_range) {};
	return true;
}

static int kvm_memtype_show(struct seq_file *file, void *unused)
{
	struct kvm *kvm = file->private;
	struct kvm_memtype_range range, next;
	bool complete;
	int idx, i;

	seq_printf(file, "policy %s\nnoncoherent-dma %s\n",
		   kvm_memtype_policy_name(kvm_memtype_policy(kvm)),
		   kvm_arch_has_noncoherent_dma(kvm) ? "yes" : "no");
	seq_printf(file, "%-2s %-18s %-18s %-4s %-4s %-6s %-16s %-6s %-24s %-10s %s\n", "as",
		   "start", "end", "slot", "host", "intent", "effective", "source", "attributes",
		   "refusal", "mapped");

	for (i = 0; i < kvm_arch_nr_memslot_as_ids(kvm); i++) {
		range = (struct kvm_memtype_range) {};
		do {
			/*
			 * Neither the end of the process nor a change of the memslots waits
			 * for all of a large table, nor does a reader who was killed.
			 */
			if (seq_has_overflowed(file) || fatal_signal_pending(current))
				return 0;
			if (!mmget_not_zero(kvm->mm))
				return -ESRCH;
			idx = srcu_read_lock(&kvm->srcu);
			complete = kvm_memtype_extend(kvm, i, range.end, &range, &next);
			srcu_read_unlock(&kvm->srcu, idx);
			mmput(kvm->mm);
			/* Not before: who changes a memslot would wait for the CPU, too. */
			cond_resched();
			if (complete) {
				kvm_memtype_show_range(file, kvm, &range);
				range = next;
			}
		} while (!complete || range.start != range.end);
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(kvm_memtype);

/**
 * kvm_memtype_create_debugfs - add the file "memtype" to a VM's debugfs directory
 * @kvm: the VM; its directory exists, and goes away with the file before the VM does
 *
 * The file is a table of what kvm_memtype_decide() says of the VM's memory;
 * Documentation/virt/kvm/memtype.rst describes it. A VM about which KVM does not
 * decide has none.
 *
 * Context: Process context.
 */
void kvm_memtype_create_debugfs(struct kvm *kvm)
{
	if (kvm_arch_memtype_decides(kvm))
		debugfs_create_file("memtype", 0400, kvm->debugfs_dentry, kvm, &kvm_memtype_fops);
}
