// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest memory types on x86: what the CPU can do, and its encodings.
 *
 * EPT (VMX): each leaf entry has a memory type, which the CPU combines with the
 * guest's PAT as it otherwise does with an MTRR, and a bit to ignore the
 * guest's PAT. The host's MTRRs do not count.
 *
 * NPT (SVM): PWT and PCD of a leaf entry select an entry of the host's PAT, which
 * the CPU combines with the guest's PAT and then with the host's MTRRs. WB leaves
 * the choice to the guest; there is no way to ignore it.
 *
 * Shadow paging: the guest's own page tables are not walked. On SVM the entries of
 * the shadow select from the host's PAT, so that the guest has no choice. On VMX
 * the guest's PAT is loaded, and an entry would mean what the guest says that it
 * means, so that KVM encodes nothing: all entries select the guest's PAT entry 0.
 *
 * Intel SDM: vol. 3 "Memory Type Used for Translated Guest-Physical Addresses"
 * (section 30.3.7.2). AMD APM: vol. 2, section 15.25.8 "Combining Memory Types,
 * MTRRs".
 */
#include <linux/cpufeature.h>
#include <linux/hugetlb.h>
#include <linux/interval_tree.h>
#include <linux/kvm_host.h>
#include <linux/kvm_memtype_base.h>
#include <linux/mmu_notifier.h>
#include <asm/e820/types.h>
#include <asm/mtrr.h>
#include <asm/pat_memtype.h>
#include <asm/vmx.h>

#include "memtype.h"
#include "mmu/mmu_internal.h"
#include "mmu/spte.h"
#include "x86.h"
#ifdef CONFIG_X86_64
#include "mmu/tdp_iter.h"
#endif

enum kvm_memtype_paging {
	KVM_MEMTYPE_EPT,
	KVM_MEMTYPE_NPT,
	KVM_MEMTYPE_SHADOW_SVM,
	KVM_MEMTYPE_SHADOW_VMX,
};

static enum kvm_memtype_paging kvm_memtype_paging(void)
{
	if (kvm_memtype_ept_mask)
		return KVM_MEMTYPE_EPT;
	if (!boot_cpu_has(X86_FEATURE_SVM))
		return KVM_MEMTYPE_SHADOW_VMX;
	return tdp_enabled ? KVM_MEMTYPE_NPT : KVM_MEMTYPE_SHADOW_SVM;
}

enum kvm_memtype_control kvm_arch_memtype_control(struct kvm *kvm)
{
	switch (kvm_memtype_paging()) {
	case KVM_MEMTYPE_EPT:
		/* CPUs with TDX have self-snoop. A TD must not be zapped, even if one had not. */
		if (cpu_feature_enabled(X86_FEATURE_SELFSNOOP) ||
		    (kvm && kvm_has_mirrored_tdp(kvm)))
			return KVM_MEMTYPE_CONTROL_GUEST;
		return KVM_MEMTYPE_CONTROL_UNSAFE;
	case KVM_MEMTYPE_NPT:
		return KVM_MEMTYPE_CONTROL_GUEST;
	default:
		return KVM_MEMTYPE_CONTROL_HOST;
	}
}

/* Every VM starts out with the quirk, and only VMX looks at it. */
bool kvm_arch_memtype_legacy_forces(struct kvm *kvm)
{
	return kvm_memtype_paging() == KVM_MEMTYPE_EPT &&
	       (!kvm || kvm_check_has_quirk(kvm, KVM_X86_QUIRK_IGNORE_GUEST_PAT));
}

/*
 * Only EPT has a bit for that. Of a TD's private memory the TDX module decides, and what is
 * forced would be zapped when a non-coherent device comes or goes, which loses its content.
 */
bool kvm_arch_memtype_can_force(struct kvm *kvm)
{
	return kvm_memtype_paging() == KVM_MEMTYPE_EPT && !(kvm && kvm_has_mirrored_tdp(kvm));
}

/* The TDX module decides about private memory, but KVM about what a TD shares. */
bool kvm_arch_memtype_decides(struct kvm *kvm)
{
	return true;
}

bool kvm_arch_memtype_only_ram(void)
{
	return false;
}

/*
 * EPT ignores the MTRRs, so that MMIO is UC there as it always was. Elsewhere the
 * MTRRs see to it.
 */
enum kvm_memtype_mmio kvm_arch_memtype_cached_mmio(struct kvm *kvm)
{
	return kvm_memtype_paging() == KVM_MEMTYPE_EPT ? KVM_MEMTYPE_MMIO_UC :
							 KVM_MEMTYPE_MMIO_CACHED;
}

bool kvm_arch_memtype_any_uncached(unsigned long vm_flags)
{
	return vm_flags & VM_ALLOW_ANY_UNCACHED;
}

bool kvm_arch_memtype_needs_tags(struct kvm *kvm)
{
	return false;
}

bool kvm_arch_memtype_has_stage1(struct kvm *kvm)
{
	return false;
}

void kvm_arch_memtype_set_stage1(struct kvm *kvm, bool on)
{
}

/*
 * KVM takes the ISA hole for memory if there is PAT. Where the hole is
 * cached, it is the memory that firmware is copied to.
 */
static bool kvm_memtype_is_mmio(kvm_pfn_t pfn, enum memtype_kind kind, int *is_host_mmio)
{
	if (pfn >= PFN_DOWN(ISA_START_ADDRESS) && pfn < PFN_DOWN(ISA_END_ADDRESS))
		return kind == MEMTYPE_UC || kind == MEMTYPE_UC_MINUS || kind == MEMTYPE_WC;
	return kvm_memtype_is_mmio_pfn(pfn, is_host_mmio);
}

struct kvm_memtype_host kvm_arch_memtype_host(struct kvm *kvm, const struct memtype_mapping *map)
{
	int is_host_mmio = -1;

	return (struct kvm_memtype_host) {
		.kind = map->kind,
		.mmio = kvm_memtype_is_mmio(map->pfn, map->kind, &is_host_mmio),
		.platform = mtrr_pfn_memtype(map->pfn),
	};
}

/**
 * kvm_memtype_special_level - how large a mapping of page frames may be
 * @level: PG_LEVEL_2M or PG_LEVEL_1G, that of the host's leaf entry
 * @leaf: the entry, which is present
 * @hva: virtual address in it, in bytes
 *
 * Drivers may map memory of several types by one entry; KVM must not.
 *
 * Context: Any.
 * Return: @level, or how much less has one type for sure: PG_LEVEL_2M or PG_LEVEL_4K.
 */
int kvm_memtype_special_level(int level, u64 leaf, unsigned long hva)
{
	unsigned long pfn = level > PG_LEVEL_2M ? pud_pfn(__pud(leaf)) : pmd_pfn(__pmd(leaf));

	/* With interrupts off, 1 GiB of memory is not looked at page by page. */
	if (level > PG_LEVEL_2M && !pfn_valid(pfn) &&
	    arch_memtype_is_one(pfn, KVM_PAGES_PER_HPAGE(level)))
		return level;

	pfn += (hva & (KVM_HPAGE_SIZE(level) - 1) & PMD_MASK) >> PAGE_SHIFT;
	return arch_memtype_is_one(pfn, PTRS_PER_PTE) ? PG_LEVEL_2M : PG_LEVEL_4K;
}

/* Only the TDP MMU's page tables can be walked without a vCPU. */
s64 kvm_arch_memtype_mapped(struct kvm *kvm, int as_id, u64 start, u64 end)
{
#ifdef CONFIG_X86_64
	struct kvm_mmu_page *root;
	s64 pages, most[2] = {};
	struct tdp_iter iter;

	if (!tdp_mmu_enabled)
		return -EOPNOTSUPP;

	read_lock(&kvm->mmu_lock);
	rcu_read_lock();
	list_for_each_entry_rcu(root, &kvm->arch.tdp_mmu_roots, link) {
		if (root->role.invalid || kvm_mmu_page_as_id(root) != as_id)
			continue;
		pages = 0;
		for_each_tdp_spte(iter, kvm, root, start, end) {
			if (is_shadow_present_pte(iter.old_spte) &&
			    is_last_spte(iter.old_spte, iter.level))
				pages += min(end, iter.gfn + KVM_PAGES_PER_HPAGE(iter.level)) -
					 max(start, iter.gfn);
		}
		/*
		 * vCPUs whose modes differ have page tables of their own, and so has the
		 * private memory of a TD. No page is both private and shared.
		 */
		most[is_mirror_sp(root)] = max(most[is_mirror_sp(root)], pages);
	}
	rcu_read_unlock();
	read_unlock(&kvm->mmu_lock);
	return most[false] + most[true];
#else
	return -EOPNOTSUPP;
#endif
}

bool kvm_arch_memtype_noexec(const struct kvm_memtype_intent *intent)
{
	return false;
}

/*
 * An intent as bits of an EPT leaf entry: memory type (bits 5:3) and ignore-PAT
 * (bit 6), Intel SDM vol. 3 section 30.3.7.2. UC cannot withhold WC: a guest's
 * WC is WC there, any-uncached or not.
 */
static u64 kvm_memtype_ept(const struct kvm_memtype_intent *intent)
{
	switch (intent->kind) {
	case MEMTYPE_WB:
		return (MTRR_TYPE_WRBACK << VMX_EPT_MT_EPTE_SHIFT) |
		       (intent->forced ? VMX_EPT_IPAT_BIT : 0);
	case MEMTYPE_WT:
		return MTRR_TYPE_WRTHROUGH << VMX_EPT_MT_EPTE_SHIFT;
	case MEMTYPE_WP:
		return MTRR_TYPE_WRPROT << VMX_EPT_MT_EPTE_SHIFT;
	case MEMTYPE_WC:
		return MTRR_TYPE_WRCOMB << VMX_EPT_MT_EPTE_SHIFT;
	default:
		return MTRR_TYPE_UNCACHABLE << VMX_EPT_MT_EPTE_SHIFT;
	}
}

/*
 * What the host's leaf entry says of @gfn. It is there, because a fault or the
 * SPTE that is made anew goes back to it, and MMU notifiers tell of its end.
 */
static enum memtype_kind kvm_memtype_leaf_kind(struct kvm *kvm,
					       const struct kvm_memory_slot *slot, gfn_t gfn,
					       kvm_pfn_t pfn)
{
	struct memtype_leaf leaf;

	/* What is a guest_memfd's is memory, whatever a process has mapped at the address. */
	if ((kvm_slot_has_gmem(slot) && kvm_mem_is_private(kvm, gfn)) ||
	    kvm_memslot_is_gmem_only(slot) ||
	    !memtype_find_leaf(kvm->mm, __gfn_to_hva_memslot(slot, gfn), &leaf))
		return pfn_memtype(pfn, MEMTYPE_WB);

	return arch_memtype_kind(&leaf);
}

/* An intent as bits of a leaf SPTE. */
static u64 kvm_memtype_encode(const struct kvm_memtype_intent *intent)
{
	enum memtype_kind actual;

	switch (kvm_memtype_paging()) {
	case KVM_MEMTYPE_EPT:
		return kvm_memtype_ept(intent);
	case KVM_MEMTYPE_SHADOW_VMX:
		return 0;
	default:
		return memtype_to_pat(intent->kind, &actual);
	}
}

static noinline u64 kvm_memtype_spte_slow(struct kvm_vcpu *vcpu,
					  const struct kvm_memory_slot *slot, gfn_t gfn,
					  kvm_pfn_t pfn, int *is_host_mmio)
{
	enum memtype_kind kind = kvm_memtype_leaf_kind(vcpu->kvm, slot, gfn, pfn);
	struct kvm_memtype_host host = {
		.kind = kind, .mmio = kvm_memtype_is_mmio(pfn, kind, is_host_mmio),
	};
	struct kvm_memtype_intent intent = kvm_memtype_fault(vcpu, slot, gfn, host);

	return kvm_memtype_encode(&intent);
}

/* Not of shmem: i915 lets a process map that WC, by vm_page_prot alone. */
static bool kvm_memtype_vma_is_plain(struct vm_area_struct *vma)
{
	return !(vma->vm_flags & (VM_IO | VM_PFNMAP | VM_MIXEDMAP)) &&
	       (vma_is_anonymous(vma) || is_vm_hugetlb_page(vma));
}

/**
 * kvm_memtype_commit_slot - note whether all of a memslot is plain memory
 * @kvm: the VM
 * @new: the memslot that was created, moved or changed; NULL if it was deleted
 *
 * Of plain memory, no driver chooses the memory type, neither in page table entries nor
 * in the linear map. So faults need not look at each page. That holds until one of the
 * mappings goes, of which kvm_memtype_unmapped() learns. It looks at active memslots only,
 * so kvm_memtype_replace_slot() takes the mark away before a memslot is none, even if it
 * becomes one again because of an error.
 *
 * Context: Process context. kvm->slots_lock is held, and the mmap_lock is taken for
 * reading.
 */
void kvm_memtype_commit_slot(struct kvm *kvm, const struct kvm_memory_slot *new)
{
	unsigned long addr, end;
	struct vm_area_struct *vma;

	if (!new || new->flags & KVM_MEM_FORCE_WB)
		return;

	addr = new->userspace_addr;
	end = addr + new->npages * PAGE_SIZE;
	mmap_read_lock(kvm->mm);
	while (addr < end) {
		vma = vma_lookup(kvm->mm, addr);
		if (!vma || !kvm_memtype_vma_is_plain(vma))
			break;
		addr = vma->vm_end;
	}
	if (addr >= end)
		WRITE_ONCE(id_to_memslot(__kvm_memslots(kvm, new->as_id), new->id)->memtype_plain,
			   true);
	mmap_read_unlock(kvm->mm);
}

/**
 * kvm_memtype_replace_slot - a memslot is about to be replaced
 * @old: the memslot that is active until then; NULL if there is none
 *
 * From then on, kvm_memtype_unmapped() no longer finds it; but a vCPU may be in the
 * middle of a fault with it, and an error may make it the active one again.
 *
 * Context: Process context. kvm->slots_lock is held.
 */
void kvm_memtype_replace_slot(struct kvm_memory_slot *old)
{
	if (old)
		WRITE_ONCE(old->memtype_plain, false);
}

/**
 * kvm_memtype_unmapped - userspace has unmapped memory, and may map anything there
 * @kvm: the VM
 * @range: the range of virtual addresses, in bytes, and why it is invalidated
 *
 * Memslots there are not plain memory any more. Whatever else changes a mapping leaves
 * its VMA what it was.
 *
 * Context: Of an MMU notifier, before what KVM has mapped is zapped. Takes kvm->srcu.
 */
void kvm_memtype_unmapped(struct kvm *kvm, const struct mmu_notifier_range *range)
{
	struct interval_tree_node *node;
	struct kvm_memory_slot *slot;
	unsigned long last = range->end - 1;
	struct kvm_memslots *slots;
	int i, idx;

	if (range->event != MMU_NOTIFY_UNMAP)
		return;

	idx = srcu_read_lock(&kvm->srcu);
	for (i = 0; i < kvm_arch_nr_memslot_as_ids(kvm); i++) {
		slots = __kvm_memslots(kvm, i);
		for (node = interval_tree_iter_first(&slots->hva_tree, range->start, last); node;
		     node = interval_tree_iter_next(node, range->start, last)) {
			slot = container_of(node, struct kvm_memory_slot,
					    hva_node[slots->node_idx]);
			WRITE_ONCE(slot->memtype_plain, false);
		}
	}
	srcu_read_unlock(&kvm->srcu, idx);
}

/* Memory of which no driver makes page table entries, so that only PAT's books count. */
static bool kvm_memtype_is_plain(kvm_pfn_t pfn)
{
	struct page *page;

	if (is_zero_pfn(pfn))
		return true;
	if (!pfn_valid(pfn))
		return false;
	page = pfn_to_page(pfn);
	return !PageReserved(page) && pat_page_is_wb(page) && (PageAnon(page) || PageHuge(page));
}

/**
 * kvm_memtype_spte_of_page - kvm_memtype_spte() by looking at the page
 * @vcpu: the vCPU that faults
 * @slot: the memslot
 * @gfn: guest frame number, in pages
 * @pfn: host frame number, in pages; of a large page, they all have one type
 * @is_host_mmio: what kvm_memtype_is_mmio_pfn() remembers
 *
 * Context: Under mmu_lock, after the page fault was found not to be stale.
 * Return: The bits.
 */
u64 kvm_memtype_spte_of_page(struct kvm_vcpu *vcpu, const struct kvm_memory_slot *slot, gfn_t gfn,
			     kvm_pfn_t pfn, int *is_host_mmio)
{
	struct kvm_memtype_intent intent = { .kind = MEMTYPE_WB };

	if (!kvm_memtype_is_plain(pfn))
		return kvm_memtype_spte_slow(vcpu, slot, gfn, pfn, is_host_mmio);

	intent.forced = kvm_memtype_fault_ram(vcpu, slot, gfn);
	return kvm_memtype_ept_mask ? kvm_memtype_ept(&intent) : 0;
}

/*
 * What a PAT entry of the guest and one of the host, which the nested page tables
 * select, are together: AMD APM vol. 2 section 15.25.8, table 15-19. Its WC+, which
 * snoops caches, is WC here. No type of the host withholds WC.
 */
static enum memtype_kind kvm_memtype_npt(enum memtype_kind host, enum memtype_kind guest)
{
	switch (guest) {
	case MEMTYPE_WB:
		return host == MEMTYPE_UC_MINUS ? MEMTYPE_UC : host;
	case MEMTYPE_WT:
	case MEMTYPE_WP:
		return host == MEMTYPE_WB || host == guest ? guest : MEMTYPE_UC;
	case MEMTYPE_UC_MINUS:
		return host == MEMTYPE_WC || host == MEMTYPE_UC_MINUS ? host : MEMTYPE_UC;
	default:
		return guest;
	}
}

/* What kvm_memtype_no_page() returns where the fault is to be tried again. */
static_assert(RET_PF_RETRY == 1);
static_assert(!(ACC_MEMTYPE_MASK & ACC_ALL));
/* shadowed_translation has room for it below the frame number. */
static_assert(ACC_MEMTYPE_MASK < PAGE_SIZE);

/* The memory type of an EPT entry, of which the CPU (or for L1's, KVM) accepts no other. */
static enum memtype_kind kvm_memtype_ept_kind(u64 entry)
{
	return mtrr_memtype((entry & VMX_EPT_MT_MASK) >> VMX_EPT_MT_EPTE_SHIFT);
}

/**
 * kvm_memtype_merge_nested - the memory type bits of a leaf SPTE that shadows L1's EPT
 * @spte: the SPTE, with the type bits that L1 itself gets for the page
 * @pte_access: what L1's entry says, in ACC_MEMTYPE_MASK
 *
 * L1 is a host for L2, so what it promises L2 must hold. On a bare machine, L1's EPT
 * type and L2's PAT give the type of an access, or with IPAT L1's type alone does
 * (Intel SDM vol. 3, section 30.3.7.2). Here, that is what L1 chooses for an access to
 * memory that KVM grants with a type of its own. Where L1 accesses the memory itself,
 * it chooses by a PAT entry, and the table of section 13.5.2.2 combines the two. L1's
 * EPT type takes the place of that PAT entry. So L1 can have for L2 what it can have
 * for itself, and nothing more: over UC and WC the table has nothing but UC and WC.
 *
 * One SPTE must then do for each entry of L2's PAT. Its type is the cell of the table,
 * its IPAT is L1's. With IPAT that is exact. Without, it is exact but for two of the
 * 150 combinations with L2's PAT: L2's UC- through L1's WP would be WC, and is UC if
 * KVM grants UC or WC, since no EPT type makes UC- WC but WB UC. UC is the stricter.
 * Where KVM grants WB, the SPTE has just what L1's entry has, and where L1 says WB
 * without IPAT, just what L1 itself gets.
 *
 * Do not take "the stricter of the two" instead: the types have no such order. L1's WT
 * over WC is UC, which is neither of them.
 *
 * Where KVM forces L1 to WB, L1 has no choice, neither for itself nor for L2: without
 * self-snoop nothing else is safe, and legacy and KVM_MEM_FORCE_WB ask for just that.
 *
 * To merge twice with one @pte_access is to merge once.
 *
 * Context: Any.
 * Return: @spte, with these bits.
 */
u64 kvm_memtype_merge_nested(u64 spte, unsigned int pte_access)
{
	u64 entry = (pte_access & ACC_MEMTYPE_MASK) >> ACC_MEMTYPE_SHIFT ^ KVM_MEMTYPE_EPT_WB;
	struct kvm_memtype_intent merged = {};

	BUILD_BUG_ON(((union kvm_mmu_page_role) { .access = ACC_MEMTYPE_MASK }).access !=
		     ACC_MEMTYPE_MASK);

	if (spte & VMX_EPT_IPAT_BIT)
		return spte;

	merged.kind = memtype_combine(kvm_memtype_ept_kind(spte), kvm_memtype_ept_kind(entry),
				      false);
	spte &= ~(u64)KVM_MEMTYPE_EPT_BITS;
	return spte | kvm_memtype_ept(&merged) | (entry & VMX_EPT_IPAT_BIT);
}

static enum memtype_kind kvm_memtype_effective(enum kvm_memtype_paging paging,
					       enum memtype_kind mtrr,
					       const struct kvm_memtype_intent *intent,
					       enum memtype_kind guest)
{
	enum memtype_kind pat;

	if (paging == KVM_MEMTYPE_EPT)
		return memtype_combine(intent->kind, intent->forced ? MEMTYPE_WB : guest, false);

	if (mtrr == MEMTYPE_NONE)
		mtrr = MEMTYPE_WB;
	if (paging == KVM_MEMTYPE_SHADOW_VMX)
		return memtype_combine(mtrr, MEMTYPE_WB, false);
	memtype_to_pat(intent->kind, &pat);
	if (paging == KVM_MEMTYPE_NPT)
		pat = kvm_memtype_npt(pat, guest);
	return memtype_combine(mtrr, pat, true);
}

/* Of each type that a PAT entry can have; NONE for arm64's. */
enum memtype_kind kvm_arch_memtype_effective(struct kvm *kvm,
					     const struct kvm_memtype_host *host,
					     const struct kvm_memtype_intent *intent,
					     enum memtype_kind guest)
{
	if (memtype_combine(MEMTYPE_WB, guest, false) == MEMTYPE_NONE)
		return MEMTYPE_NONE;
	return kvm_memtype_effective(kvm_memtype_paging(), host->platform, intent, guest);
}

#ifdef CONFIG_KVM_MEMTYPE_KUNIT_TEST
#include "memtype_kunit.c"
#endif
