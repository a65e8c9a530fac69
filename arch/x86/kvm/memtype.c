// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest memory types on x86: what the CPU can do, and its encodings.
 *
 * EPT (VMX): each leaf entry has a memory type, which the CPU combines with the
 * guest's PAT as it otherwise does with an MTRR, and a bit to ignore the
 * guest's PAT. The host's MTRRs do not count.
 *
 * NPT (SVM): nested entries select host PAT entry 0, which is WB and leaves the
 * choice to the guest's PAT; the host's MTRRs count.
 *
 * Shadow paging: shadow entries select host PAT entry 0 too, and the guest's
 * own page tables are not walked, so that its PAT never counts.
 *
 * Intel SDM: vol. 3 "Memory Type Used for Translated Guest-Physical Addresses"
 * (section 30.3.7.2) and table "Effective Page-Level Memory Types for Pentium
 * III and More Recent Processor Families" (section 13.5.2.2). AMD APM: vol. 2,
 * section 15.25.8 "Combining Memory Types, MTRRs" and section 7.8.4 "Combined
 * Effect of MTRRs and PAT".
 */
#include <linux/cpufeature.h>
#include <linux/kvm_host.h>
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
	KVM_MEMTYPE_SHADOW,
};

static enum kvm_memtype_paging kvm_memtype_paging(void)
{
	if (shadow_memtype_mask)
		return KVM_MEMTYPE_EPT;
	return tdp_enabled ? KVM_MEMTYPE_NPT : KVM_MEMTYPE_SHADOW;
}

enum kvm_memtype_control kvm_arch_memtype_control(struct kvm *kvm)
{
	switch (kvm_memtype_paging()) {
	case KVM_MEMTYPE_EPT:
		return static_cpu_has(X86_FEATURE_SELFSNOOP) ? KVM_MEMTYPE_CONTROL_GUEST :
							     KVM_MEMTYPE_CONTROL_UNSAFE;
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

/* Only EPT has a bit for that. */
bool kvm_arch_memtype_can_force(void)
{
	return kvm_memtype_paging() == KVM_MEMTYPE_EPT;
}

/* As before, what is not memory is UC, even if the host caches it. */
bool kvm_arch_memtype_can_cache_mmio(struct kvm *kvm)
{
	return false;
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

static bool kvm_memtype_is_isa_hole(kvm_pfn_t pfn)
{
	return pfn >= PFN_DOWN(ISA_START_ADDRESS) && pfn < PFN_DOWN(ISA_END_ADDRESS);
}

/* Whether PAT has a type of its own for memory. */
static bool kvm_memtype_is_typed(kvm_pfn_t pfn)
{
	return kvm_memtype_is_isa_hole(pfn) ||
	       (pfn_valid(pfn) && !PageReserved(pfn_to_page(pfn)));
}

/* @mmio is kvm_is_mmio_pfn(), which takes the ISA hole for memory if there is PAT. */
static struct kvm_memtype_host kvm_memtype_host(kvm_pfn_t pfn, bool mmio, enum memtype_kind kind)
{
	struct kvm_memtype_host host = { .kind = kind, .mmio = mmio };

	if (mmio && kind != MEMTYPE_WC && kind != MEMTYPE_UC_MINUS)
		host.kind = MEMTYPE_UC;
	else if (kind == MEMTYPE_NONE)
		host.kind = MEMTYPE_WB;
	if (kvm_memtype_is_isa_hole(pfn))
		host.mmio = host.kind != MEMTYPE_WB;
	return host;
}

struct kvm_memtype_host kvm_arch_memtype_host(const struct memtype_mapping *map)
{
	bool mmio = kvm_is_mmio_pfn(map->pfn);
	struct kvm_memtype_host host;

	host = kvm_memtype_host(map->pfn, mmio,
				mmio || kvm_memtype_is_typed(map->pfn) ? map->kind : MEMTYPE_WB);
	host.platform = mtrr_pfn_memtype(map->pfn);
	return host;
}

/**
 * kvm_memtype_special_level - how large a mapping of page frames may be
 * @level: PG_LEVEL_* of the host's leaf entry
 * @pfn: first host frame number of the leaf, in pages
 * @hva: virtual address in it, in bytes
 *
 * Drivers may map memory of several types by one entry; KVM must not.
 *
 * Context: Any.
 * Return: @level for what is not memory, which has one type; else PG_LEVEL_2M, or
 * PG_LEVEL_4K if the types within it differ.
 */
int kvm_memtype_special_level(int level, unsigned long pfn, unsigned long hva)
{
	enum memtype_kind kind;
	int i;

	if (kvm_is_mmio_pfn(pfn))
		return level;

	pfn += (hva & (KVM_HPAGE_SIZE(level) - 1) & PMD_MASK) >> PAGE_SHIFT;
	kind = pat_pfn_memtype(pfn);
	for (i = 1; i < PTRS_PER_PMD; i++) {
		if (pat_pfn_memtype(pfn + i) != kind)
			return PG_LEVEL_4K;
	}
	return PG_LEVEL_2M;
}

/* Only the TDP MMU's page tables can be walked without a vCPU. */
s64 kvm_arch_memtype_mapped(struct kvm *kvm, int as_id, u64 start, u64 end)
{
#ifdef CONFIG_X86_64
	struct kvm_mmu_page *root;
	s64 pages, most = 0;
	struct tdp_iter iter;

	if (!tdp_mmu_enabled)
		return -EOPNOTSUPP;

	read_lock(&kvm->mmu_lock);
	rcu_read_lock();
	list_for_each_entry_rcu(root, &kvm->arch.tdp_mmu_roots, link) {
		if (root->role.invalid || kvm_mmu_page_as_id(root) != as_id)
			continue;
		pages = 0;
		for_each_tdp_pte(iter, root, start, end) {
			if (is_shadow_present_pte(iter.old_spte) &&
			    is_last_spte(iter.old_spte, iter.level))
				pages += min(end, iter.gfn + KVM_PAGES_PER_HPAGE(iter.level)) -
					 max(start, iter.gfn);
		}
		/* vCPUs whose modes differ have page tables of their own. */
		most = max(most, pages);
	}
	rcu_read_unlock();
	read_unlock(&kvm->mmu_lock);
	return most;
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

static noinline u64 kvm_memtype_spte_slow(struct kvm_vcpu *vcpu,
					  const struct kvm_memory_slot *slot, gfn_t gfn,
					  kvm_pfn_t pfn)
{
	bool mmio = kvm_is_mmio_pfn(pfn);
	enum memtype_kind kind = MEMTYPE_WB;
	struct kvm_memtype_intent intent;
	struct kvm_memtype_host host;

	/* MMIO's encoding is the same whatever PAT says, so its lock is not taken again. */
	if (mmio)
		kind = MEMTYPE_UC;
	else if (kvm_memtype_is_typed(pfn))
		kind = pat_pfn_memtype(pfn);
	host = kvm_memtype_host(pfn, mmio, kind);
	intent = kvm_memtype_fault(vcpu, slot, gfn, host);
	return kvm_memtype_ept(&intent);
}

/**
 * kvm_memtype_spte - the memory type bits of a leaf SPTE
 * @vcpu: the vCPU that faults
 * @slot: the memslot
 * @gfn: guest frame number, in pages
 * @pfn: host frame number, in pages; of a large page, they all have one type
 *
 * Context: Under mmu_lock, after the page fault was found not to be stale. Only
 * if shadow_memtype_mask is not 0, i.e. with EPT.
 * Return: The bits.
 */
u64 kvm_memtype_spte(struct kvm_vcpu *vcpu, const struct kvm_memory_slot *slot, gfn_t gfn,
		     kvm_pfn_t pfn)
{
	struct kvm_memtype_intent intent = { .kind = MEMTYPE_WB };

	if (unlikely(!pfn_valid(pfn) || PageReserved(pfn_to_page(pfn)) ||
		     !pat_page_is_wb(pfn_to_page(pfn))))
		return kvm_memtype_spte_slow(vcpu, slot, gfn, pfn);

	intent.forced = kvm_memtype_fault_ram(vcpu, slot, gfn);
	return kvm_memtype_ept(&intent);
}

/*
 * The type of an access to memory whose EPT type (or MTRR) is @memory through a
 * PAT entry of type @pat, Intel SDM vol. 3 section 13.5.2.2 and AMD APM vol. 2
 * section 7.8.4.
 */
static enum memtype_kind kvm_memtype_combine(enum memtype_kind memory, enum memtype_kind pat)
{
	bool uncached = memory == MEMTYPE_UC || memory == MEMTYPE_WC;

	switch (pat) {
	case MEMTYPE_WB:
		return memory;
	case MEMTYPE_WT:
	case MEMTYPE_WP:
		return uncached ? MEMTYPE_UC : pat;
	case MEMTYPE_UC_MINUS:
		return memory == MEMTYPE_WC || memory == MEMTYPE_WP ? MEMTYPE_WC : MEMTYPE_UC;
	case MEMTYPE_WC:
	case MEMTYPE_UC:
		return pat;
	default:
		return MEMTYPE_NONE;
	}
}

static enum memtype_kind kvm_memtype_effective(enum kvm_memtype_paging paging,
					       enum memtype_kind mtrr,
					       const struct kvm_memtype_intent *intent,
					       enum memtype_kind guest)
{
	if (mtrr == MEMTYPE_NONE)
		mtrr = intent->source == KVM_MEMTYPE_SOURCE_MMIO ? MEMTYPE_UC : MEMTYPE_WB;

	switch (paging) {
	case KVM_MEMTYPE_EPT:
		return kvm_memtype_combine(intent->kind, intent->forced ? MEMTYPE_WB : guest);
	case KVM_MEMTYPE_NPT:
		return kvm_memtype_combine(mtrr, guest);
	default:
		return kvm_memtype_combine(mtrr, MEMTYPE_WB);
	}
}

/* Of each type that a PAT entry can have; NONE for arm64's. */
enum memtype_kind kvm_arch_memtype_effective(struct kvm *kvm,
					     const struct kvm_memtype_host *host,
					     const struct kvm_memtype_intent *intent,
					     enum memtype_kind guest)
{
	if (kvm_memtype_combine(MEMTYPE_WB, guest) == MEMTYPE_NONE)
		return MEMTYPE_NONE;
	return kvm_memtype_effective(kvm_memtype_paging(), host->platform, intent, guest);
}

#ifdef CONFIG_KVM_MEMTYPE_KUNIT_TEST
#include "memtype_kunit.c"
#endif
