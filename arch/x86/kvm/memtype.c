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
#include <asm/mtrr.h>
#include <asm/vmx.h>

#include "memtype.h"
#include "mmu/spte.h"
#include "x86.h"

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

enum kvm_memtype_control kvm_arch_memtype_control(void)
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

bool kvm_arch_memtype_is_mmio(unsigned long pfn)
{
	return kvm_is_mmio_pfn(pfn);
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
	case MEMTYPE_WC:
		return MTRR_TYPE_WRCOMB << VMX_EPT_MT_EPTE_SHIFT;
	default:
		return MTRR_TYPE_UNCACHABLE << VMX_EPT_MT_EPTE_SHIFT;
	}
}

/**
 * kvm_memtype_spte - the memory type bits of a leaf SPTE
 * @vcpu: the vCPU that faults
 * @gfn: guest frame number, in pages
 * @is_mmio: kvm_is_mmio_pfn() of the page
 *
 * Context: Under mmu_lock, after the page fault was found not to be stale. Only
 * if shadow_memtype_mask is not 0, i.e. with EPT.
 * Return: The bits.
 */
u64 kvm_memtype_spte(struct kvm_vcpu *vcpu, gfn_t gfn, bool is_mmio)
{
	struct kvm_memtype_intent intent;

	/* Any-uncached or not, UC has the same encoding. */
	intent = kvm_memtype_fault(vcpu->kvm, gfn, memtype_of_page(is_mmio, false));
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
					       const struct kvm_memtype_intent *intent,
					       enum memtype_kind guest)
{
	/* The host's MTRRs say WB of RAM, and UC of everything else. */
	enum memtype_kind mtrr = intent->kind == MEMTYPE_UC ? MEMTYPE_UC : MEMTYPE_WB;

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
enum memtype_kind kvm_arch_memtype_effective(const struct kvm_memtype_intent *intent,
					     enum memtype_kind guest)
{
	if (kvm_memtype_combine(MEMTYPE_WB, guest) == MEMTYPE_NONE)
		return MEMTYPE_NONE;
	return kvm_memtype_effective(kvm_memtype_paging(), intent, guest);
}

#ifdef CONFIG_KVM_MEMTYPE_KUNIT_TEST
#include "memtype_kunit.c"
#endif
