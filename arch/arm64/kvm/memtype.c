// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest memory types on arm64: what the CPU can do, and its encodings.
 *
 * A stage-2 leaf entry has MemAttr[3:0] (bits 5:2), which the CPU combines with
 * the type that the guest's stage 1 selects through MAIR_EL1. Without FEAT_S2FWB
 * the stricter of the two wins. With it (HCR_EL2.FWB) KVM's encoding of RAM
 * forces write-back, or in stage-1 mode (KVM_MEMTYPE_POLICY_STAGE1) leaves it to
 * stage 1; that of Device has the stricter one win as before.
 *
 * Arm ARM (DDI 0487) section D8.6 "Memory region attributes": R_HMNDG, R_TNHFM,
 * R_GQFSF without FWB, R_VRJSW and R_RHWZM with it.
 */
#include <linux/cpufeature.h>
#include <linux/kvm_host.h>
#include <linux/kvm_memtype_base.h>
#include <asm/kvm_memtype.h>
#include <asm/kvm_memtype_base.h>
#include <asm/kvm_mmu.h>
#include <asm/kvm_pgtable.h>
#include <asm/mair_memtype.h>
#include <asm/memory.h>

#include "memtype.h"

/**
 * kvm_memtype_is_stage1 - whether a VM has KVM_MEMTYPE_POLICY_STAGE1
 * @kvm: the VM; NULL for a new one
 *
 * Context: Any, as long as the VM's mm has users. Constant under kvm->lock.
 * Return: Whether it has.
 */
bool kvm_memtype_is_stage1(struct kvm *kvm)
{
	return kvm && kvm->arch.mmu.pgt->flags & KVM_PGTABLE_S2_AS_S1;
}

/* Whether the CPU forces a guest's memory to write-back. */
static bool kvm_memtype_fwb(struct kvm *kvm)
{
	return cpus_have_final_cap(ARM64_HAS_STAGE2_FWB) && !kvm_memtype_is_stage1(kvm);
}

enum kvm_memtype_control kvm_arch_memtype_control(struct kvm *kvm)
{
	return kvm_memtype_fwb(kvm) ? KVM_MEMTYPE_CONTROL_HOST : KVM_MEMTYPE_CONTROL_GUEST;
}

/* Memory was forced or not as it is now. */
bool kvm_arch_memtype_legacy_forces(struct kvm *kvm)
{
	return false;
}

/* FWB forces as it likes; without it nothing can. */
bool kvm_arch_memtype_can_force(struct kvm *kvm)
{
	return false;
}

/* pKVM's hypervisor takes the memory of a protected guest from the host. */
bool kvm_arch_memtype_decides(struct kvm *kvm)
{
	return !kvm || !kvm_vm_is_protected(kvm);
}

/* pKVM's hypervisor shares memory with guests and nothing else, and maps it write-back. */
bool kvm_arch_memtype_only_ram(void)
{
	return !kvm_memtype_has_stage2();
}

/*
 * What is not in the linear map cannot be cleaned, so that its caches must need no
 * maintenance: data caches by FWB, instruction caches by DIC (CTR_EL0.DIC). Before 6.17,
 * what is not memory was never mapped cacheable.
 */
enum kvm_memtype_mmio kvm_arch_memtype_cached_mmio(struct kvm *kvm)
{
	if (KVM_MEMTYPE_LEGACY_IS_DEVICE && kvm_memtype_is_legacy(kvm))
		return KVM_MEMTYPE_MMIO_UC;
	return kvm_memtype_fwb(kvm) && cpus_have_final_cap(ARM64_HAS_CACHE_DIC) &&
	       !kvm_arch_memtype_only_ram() ?
	       KVM_MEMTYPE_MMIO_CACHED : KVM_MEMTYPE_MMIO_REFUSED;
}

/* Where a CPU's Normal Non-cacheable is broken, the kernel makes it Device. */
bool kvm_arch_memtype_any_uncached(unsigned long vm_flags)
{
	return vm_flags & VM_ALLOW_ANY_UNCACHED && mair_index_memtype(MT_NORMAL_NC) == MEMTYPE_WC;
}

bool kvm_arch_memtype_needs_tags(struct kvm *kvm)
{
	return kvm && kvm_has_mte(kvm);
}

static bool kvm_memtype_has_gmem_slot(struct kvm *kvm)
{
	struct kvm_memory_slot *slot;
	bool found = false;
	int idx, bkt;

	idx = srcu_read_lock(&kvm->srcu);
	kvm_for_each_memslot(slot, bkt, kvm_memslots(kvm))
		found |= kvm_slot_has_gmem(slot);
	srcu_read_unlock(&kvm->srcu, idx);
	return found;
}

/*
 * Tags need Tagged memory, which is write-back. Protected guests and the stage 2 of
 * nested ones have page tables that do not follow the rules of stage-1 mode. What a
 * guest_memfd holds may leave the linear map, by which caches are maintained.
 */
bool kvm_arch_memtype_has_stage1(struct kvm *kvm)
{
	return cpus_have_final_cap(ARM64_HAS_STAGE2_FWB) && !is_protected_kvm_enabled() &&
	       !cpus_have_final_cap(ARM64_HAS_NESTED_VIRT) && !kvm_arch_memtype_needs_tags(kvm) &&
	       !(kvm && kvm_memtype_has_gmem_slot(kvm));
}

void kvm_arch_memtype_set_stage1(struct kvm *kvm, bool on)
{
	if (on)
		kvm->arch.mmu.pgt->flags |= KVM_PGTABLE_S2_AS_S1;
	else
		kvm->arch.mmu.pgt->flags &= ~KVM_PGTABLE_S2_AS_S1;
}

/*
 * In an ordinary mapping, what is not in memblock is memory with a struct page (DAX), which
 * the linear map has. Before 6.17, KVM mapped it Device.
 */
static bool kvm_memtype_is_mmio(struct kvm *kvm, bool in_memblock, vm_flags_t vm_flags)
{
	if (in_memblock)
		return false;
	return kvm_memtype_is_special(vm_flags) ||
	       (KVM_MEMTYPE_LEGACY_IS_DEVICE && kvm_memtype_is_legacy(kvm));
}

struct kvm_memtype_host kvm_arch_memtype_host(struct kvm *kvm, const struct memtype_mapping *map)
{
	return (struct kvm_memtype_host) {
		.kind = map->kind,
		.mmio = kvm_memtype_is_mmio(kvm, pfn_is_map_memory(map->pfn), map->flags),
	};
}

static int kvm_memtype_count_leaf(const struct kvm_pgtable_visit_ctx *ctx,
				  enum kvm_pgtable_walk_flags visit)
{
	s64 *pages = ctx->arg;

	/* A block may reach beyond the range; what was walked is what there is of it. */
	if (kvm_pte_valid(ctx->old))
		*pages += (min(ctx->end, ALIGN_DOWN(ctx->addr, kvm_granule_size(ctx->level)) +
			       kvm_granule_size(ctx->level)) - ctx->addr) >> PAGE_SHIFT;
	return 0;
}

s64 kvm_arch_memtype_mapped(struct kvm *kvm, int as_id, u64 start, u64 end)
{
	s64 pages = 0;
	struct kvm_pgtable_walker walker = {
		.cb = kvm_memtype_count_leaf,
		.arg = &pages,
		.flags = KVM_PGTABLE_WALK_LEAF | KVM_PGTABLE_WALK_SHARED,
	};

	if (!kvm_memtype_has_stage2())
		return -EOPNOTSUPP;

	read_lock(&kvm->mmu_lock);
	/* It goes with the process. */
	if (kvm->arch.mmu.pgt)
		kvm_pgtable_walk(kvm->arch.mmu.pgt, start << PAGE_SHIFT,
				 (end - start) << PAGE_SHIFT, &walker);
	read_unlock(&kvm->mmu_lock);
	return pages;
}

/*
 * Of a block, what is in the range: other parts of it may be somebody else's turn. What the host
 * maps uncached it reads from memory.
 */
static int kvm_memtype_flush_leaf(const struct kvm_pgtable_visit_ctx *ctx,
				  enum kvm_pgtable_walk_flags visit)
{
	u64 granule = kvm_granule_size(ctx->level), offset = ctx->addr & (granule - 1);

	if (kvm_stage2_needs_cmo(ctx->arg, ctx->old) && !kvm_stage2_uncached_ram(ctx->old))
		kvm_flush_dcache_to_poc(__va(kvm_pte_to_phys(ctx->old)) + offset,
					min(ctx->end - ctx->addr, granule - offset));
	return 0;
}

/* Cleans and invalidates the pages of @mask that are mapped; under mmu_lock for writing. */
static void kvm_memtype_flush_pages(struct kvm_pgtable *pgt, gfn_t gfn, unsigned long mask)
{
	struct kvm_pgtable_walker walker = {
		.cb = kvm_memtype_flush_leaf,
		.arg = pgt,
		.flags = KVM_PGTABLE_WALK_LEAF,
	};
	unsigned long start, end;

	for_each_set_bitrange(start, end, &mask, BITS_PER_LONG)
		kvm_pgtable_walk(pgt, gfn_to_gpa(gfn + start), (u64)(end - start) << PAGE_SHIFT,
				 &walker);
}

/*
 * Guests with nested ones have FWB, so that there is no other page table to look at. With pKVM,
 * only the hypervisor knows what is mapped, and by which VMID.
 */
static bool kvm_memtype_maintains_log(struct kvm *kvm)
{
	return !kvm_stage2_has_fwb(kvm->arch.mmu.pgt) && kvm_memtype_has_stage2();
}

/**
 * kvm_memtype_log_out - let the host see what is in pages that a dirty log hands out
 * @kvm: the VM
 * @slot: the memslot
 * @first: the first page of @bitmap, counted from the first one of @slot
 * @npages: number of pages that @bitmap covers
 * @bitmap: which of them; NULL for all
 *
 * A guest that bypasses the caches writes to memory only, and the host can still have a
 * line of what was there before. Whoever migrates the guest reads each page once, then
 * those that the log hands out.
 *
 * The guest can no longer write to the pages without being noticed: they are
 * write-protected, and the TLBs know that. Or its vCPUs do not run, or the pages are
 * maintained once more when they are cleared.
 *
 * Context: An ioctl of the VM's process, so that the page tables exist. Takes
 * kvm->mmu_lock for writing, for BITS_PER_LONG pages at a time: a vCPU that breaks a block
 * has it for reading until it has maintained the block.
 */
void kvm_memtype_log_out(struct kvm *kvm, const struct kvm_memory_slot *slot, gfn_t first,
			 unsigned long npages, const unsigned long *bitmap)
{
	struct kvm_pgtable *pgt = kvm->arch.mmu.pgt;
	unsigned long mask, page;

	if (!kvm_memtype_maintains_log(kvm))
		return;
	npages = min(npages, slot->npages - first);
	for (page = 0; page < npages; page += BITS_PER_LONG) {
		mask = bitmap ? READ_ONCE(bitmap[page / BITS_PER_LONG]) : ~0ul;
		mask &= ~0ul >> (BITS_PER_LONG - min(npages - page, BITS_PER_LONG));
		if (!mask)
			continue;

		write_lock(&kvm->mmu_lock);
		kvm_memtype_flush_pages(pgt, slot->base_gfn + first + page, mask);
		write_unlock(&kvm->mmu_lock);
		cond_resched();
	}
}

/**
 * kvm_memtype_log_reset - the same for pages of a dirty ring that is reset
 * @kvm: the VM
 * @slot: the memslot
 * @offset: of the first page in @slot, in pages
 * @mask: which pages from there on; they are write-protected
 *
 * TLBs may still allow to write, which the caller makes good only later, so it is done here.
 *
 * Context: As kvm_memtype_log_out().
 */
void kvm_memtype_log_reset(struct kvm *kvm, const struct kvm_memory_slot *slot, gfn_t offset,
			   unsigned long mask)
{
	if (!kvm_memtype_maintains_log(kvm))
		return;
	kvm_tlb_flush_vmid_range(&kvm->arch.mmu,
				 gfn_to_gpa(slot->base_gfn + offset + __ffs(mask)),
				 (__fls(mask) - __ffs(mask) + 1) << PAGE_SHIFT);
	kvm_memtype_log_out(kvm, slot, offset, BITS_PER_LONG, &mask);
}

/**
 * kvm_memtype_toggle_cache - a vCPU turns its caches on or off
 * @kvm: the VM
 * @on: what it does
 * @flush: cleans and invalidates all that is mapped
 *
 * The first vCPU that turns them on finds lines of the host from before the guest began. For
 * the others nothing is done, until KVM sees one turn them off: pages that are mapped later
 * are maintained one by one, and what a vCPU writes with its caches off the guest maintains
 * by address, as it has to on a bare machine, where other CPUs may have lines of it. A guest
 * that does so by set/way tells KVM, see kvm_memtype_caches_off().
 *
 * Context: Process context, of a vCPU's own task. Others wait until the memory is maintained.
 */
void kvm_memtype_toggle_cache(struct kvm *kvm, bool on, void (*flush)(struct kvm *kvm))
{
	mutex_lock(&kvm->memtype.caches_lock);
	if (!on || !kvm->memtype.caches_on)
		flush(kvm);
	kvm->memtype.caches_on = on;
	mutex_unlock(&kvm->memtype.caches_lock);
}

/**
 * kvm_memtype_caches_off - a vCPU may be about to turn its caches on once more
 * @kvm: the VM
 *
 * It is reset after it has run, or maintains its caches by set/way, as it does with caches
 * that are off although KVM has not seen that, or before it turns them on.
 *
 * Context: Process context.
 */
void kvm_memtype_caches_off(struct kvm *kvm)
{
	mutex_lock(&kvm->memtype.caches_lock);
	kvm->memtype.caches_on = false;
	mutex_unlock(&kvm->memtype.caches_lock);
}

bool kvm_arch_memtype_noexec(const struct kvm_memtype_intent *intent)
{
	return intent->kind != MEMTYPE_WB;
}

/* An intent as the page table code knows it; WB is what it does by itself. */
static enum kvm_pgtable_prot kvm_memtype_to_prot(const struct kvm_memtype_intent *intent)
{
	switch (intent->kind) {
	case MEMTYPE_WB:
		return 0;
	case MEMTYPE_WC:
		return KVM_PGTABLE_PROT_NORMAL_NC;
	default:
		return intent->any_uncached ? KVM_PGTABLE_PROT_NORMAL_NC :
					      KVM_PGTABLE_PROT_DEVICE;
	}
}

/* kvm_memtype_prot(), of which this is the part for what is not plain memory. */
int kvm_memtype_special_prot(struct kvm_vcpu *vcpu, struct kvm_memory_slot *slot,
			     unsigned long hva, vm_flags_t vm_flags, bool exec,
			     enum kvm_pgtable_prot *prot, bool *device)
{
	/* Not the first one of a block, because userspace is told of it. */
	gfn_t gfn = hva_to_gfn_memslot(hva, slot);
	struct kvm_memtype_host host = { .kind = MEMTYPE_WB };
	struct kvm_memtype_intent intent;
	bool in_memblock = !*device;
	struct memtype_leaf leaf;

	if (kvm_memtype_is_special(vm_flags)) {
		/* A page may be there, but the query says that nobody may access it. */
		if (!(vm_flags & (VM_READ | VM_WRITE)) && !kvm_memtype_is_legacy(vcpu->kvm))
			return kvm_memtype_refuse(vcpu, gfn, KVM_MEMTYPE_REFUSAL_UNMAPPED);

		/* A leaf that is gone makes the guest fault again. */
		if (!memtype_find_leaf(vcpu->kvm->mm, hva, &leaf))
			return 1;
		host.kind = arch_memtype_kind(&leaf);
		in_memblock = pfn_is_map_memory(leaf.pfn);
	}
	host.mmio = kvm_memtype_is_mmio(vcpu->kvm, in_memblock, vm_flags);
	kvm_memtype_apply_vma(vcpu->kvm, vm_flags, &host);
	if (exec) {
		intent = kvm_memtype_decide(vcpu->kvm, slot, host);
		/* Without the hypervisor, a guest could not execute from there either. */
		if (intent.refusal == KVM_MEMTYPE_REFUSAL_HYPERVISOR ||
		    (!intent.refusal && kvm_arch_memtype_noexec(&intent)))
			return -ENOEXEC;
	}

	intent = kvm_memtype_fault(vcpu, slot, gfn, host);
	if (intent.kind == MEMTYPE_WB) {
		*device = false;
		return 0;
	}
	if (intent.refusal)
		return -EFAULT;
	*prot |= kvm_memtype_to_prot(&intent);
	if (!host.mmio)
		*prot |= KVM_PGTABLE_PROT_UNCACHED_RAM;
	*device = true;
	return 0;
}

/**
 * kvm_memtype_check_vma - refuse a memslot of which it is clear that it cannot be used
 * @kvm: the VM
 * @vma: one of the memslot's VMAs
 * @hva: address of the memslot from which on @vma is its next one, in bytes
 *
 * Of what a driver maps, only if it has mapped something already; else it shows at the fault.
 * What pKVM's hypervisor does not map also shows only at the fault: a guest need not use all of
 * its memory.
 *
 * Context: Under the mmap_lock of the VM's mm, at least for reading. May sleep.
 * Return: 0, or -EINVAL.
 */
int kvm_memtype_check_vma(struct kvm *kvm, struct vm_area_struct *vma, unsigned long hva)
{
	struct kvm_memtype_host host = { .kind = MEMTYPE_WB };
	struct memtype_mapping map;
	u8 refusal;

	if (kvm_memtype_is_special(vma->vm_flags)) {
		memtype_look_up(vma, max(hva, vma->vm_start), &map);
		if (!map.present)
			return 0;
		host = kvm_arch_memtype_host(kvm, &map);
	}
	kvm_memtype_apply_vma(kvm, vma->vm_flags, &host);
	refusal = kvm_memtype_decide(kvm, NULL, host).refusal;
	return refusal && refusal != KVM_MEMTYPE_REFUSAL_HYPERVISOR ? -EINVAL : 0;
}

/*
 * MemAttr[3:0] that stage2_set_prot_attr() gives a leaf entry: Device-nGnRE,
 * Normal Non-cacheable or what memory is (Arm ARM D8.6).
 */
static u8 kvm_memtype_memattr(enum kvm_pgtable_prot prot, u8 memory)
{
	if (prot & KVM_PGTABLE_PROT_DEVICE)
		return 0x1;
	if (prot & KVM_PGTABLE_PROT_NORMAL_NC)
		return 0x5;
	return memory;
}

static u8 kvm_memtype_memory_memattr(struct kvm *kvm)
{
	if (kvm_memtype_is_stage1(kvm))
		return 0x7;
	return kvm_memtype_fwb(kvm) ? 0x6 : 0xf;
}

/* Without FWB the stricter type wins; from strict to relaxed. */
static const enum memtype_kind kvm_memtype_strictness[] = {
	MEMTYPE_NGNRNE, MEMTYPE_UC, MEMTYPE_NGRE, MEMTYPE_GRE, MEMTYPE_WC, MEMTYPE_WT, MEMTYPE_WB,
};

/* What MemAttr[3:0] means by itself; with FWB that is so for Device only. */
static enum memtype_kind kvm_memtype_from_memattr(u8 memattr)
{
	switch (memattr) {
	case 0x0:
		return MEMTYPE_NGNRNE;
	case 0x1:
		return MEMTYPE_UC;
	case 0x2:
		return MEMTYPE_NGRE;
	case 0x3:
		return MEMTYPE_GRE;
	case 0x5:
		return MEMTYPE_WC;
	case 0xa:
		return MEMTYPE_WT;
	case 0xf:
		return MEMTYPE_WB;
	default:
		return MEMTYPE_NONE;
	}
}

static enum memtype_kind kvm_memtype_stricter(enum memtype_kind a, enum memtype_kind b)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(kvm_memtype_strictness); i++) {
		if (kvm_memtype_strictness[i] == a || kvm_memtype_strictness[i] == b)
			return kvm_memtype_strictness[i];
	}
	return MEMTYPE_NONE;
}

/* The type of an access to which stage 1 gives @guest and stage 2 @memattr. */
static enum memtype_kind kvm_memtype_combine(u8 memattr, bool fwb, enum memtype_kind guest)
{
	enum memtype_kind host = kvm_memtype_from_memattr(memattr);

	if (fwb && memattr > 0x3) {
		switch (memattr) {
		case 0x5:
			return kvm_memtype_stricter(guest, MEMTYPE_WC);
		case 0x6:
			return MEMTYPE_WB;
		case 0x7:
			return guest;
		default:
			return MEMTYPE_NONE;
		}
	}
	return host == MEMTYPE_NONE ? MEMTYPE_NONE : kvm_memtype_stricter(guest, host);
}

/* Of each type that MAIR_EL1 can encode; NONE for x86's. */
enum memtype_kind kvm_arch_memtype_effective(struct kvm *kvm,
					     const struct kvm_memtype_host *host,
					     const struct kvm_memtype_intent *intent,
					     enum memtype_kind guest)
{
	u8 memattr = kvm_memtype_memattr(kvm_memtype_to_prot(intent),
					 kvm_memtype_memory_memattr(kvm));

	if (kvm_memtype_stricter(guest, guest) == MEMTYPE_NONE)
		return MEMTYPE_NONE;
	return kvm_memtype_combine(memattr, cpus_have_final_cap(ARM64_HAS_STAGE2_FWB), guest);
}

#ifdef CONFIG_KVM_MEMTYPE_KUNIT_TEST
#include "memtype_kunit.c"
#endif
