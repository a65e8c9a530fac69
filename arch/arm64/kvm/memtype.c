// SPDX-License-Identifier: GPL-2.0-only
/*
 * Guest memory types on arm64: what the CPU can do, and its encodings.
 *
 * A stage-2 leaf entry has MemAttr[3:0] (bits 5:2), which the CPU combines with
 * the type that the guest's stage 1 selects through MAIR_EL1. Without FEAT_S2FWB
 * the stricter of the two wins. With it (HCR_EL2.FWB) KVM's encoding of RAM
 * forces write-back; that of Device has the stricter one win as before.
 *
 * Arm ARM (DDI 0487) section D8.6 "Memory region attributes": R_HMNDG, R_TNHFM,
 * R_GQFSF without FWB, R_VRJSW and R_RHWZM with it.
 */
#include <linux/cpufeature.h>
#include <linux/kvm_host.h>
#include <asm/kvm_pgtable.h>

#include "memtype.h"

static bool kvm_memtype_fwb(void)
{
	return cpus_have_final_cap(ARM64_HAS_STAGE2_FWB);
}

enum kvm_memtype_control kvm_arch_memtype_control(void)
{
	return kvm_memtype_fwb() ? KVM_MEMTYPE_CONTROL_HOST : KVM_MEMTYPE_CONTROL_GUEST;
}

/* KVM/arm64 never had such a choice. */
bool kvm_arch_memtype_legacy_forces(struct kvm *kvm)
{
	return false;
}

bool kvm_arch_memtype_is_mmio(unsigned long pfn)
{
	return !pfn_is_map_memory(pfn);
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

/**
 * kvm_memtype_prot - the memory type of a stage-2 leaf entry
 * @kvm: the VM
 * @gfn: guest frame number, in pages
 * @device: the page is not memory
 * @any_uncached: its VMA has VM_ALLOW_ANY_UNCACHED
 *
 * Context: Under mmu_lock, after the mmu_invalidate_seq check.
 * Return: KVM_PGTABLE_PROT_NORMAL_NC, KVM_PGTABLE_PROT_DEVICE, or 0 for
 * write-back.
 */
enum kvm_pgtable_prot kvm_memtype_prot(struct kvm *kvm, gfn_t gfn, bool device, bool any_uncached)
{
	struct kvm_memtype_intent intent;

	intent = kvm_memtype_fault(kvm, gfn, memtype_of_page(device, any_uncached));
	return kvm_memtype_to_prot(&intent);
}

/*
 * MemAttr[3:0] that stage2_set_prot_attr() gives a leaf entry: Device-nGnRE,
 * Normal Non-cacheable or Normal Write-Back (Arm ARM D8.6.6, D8.6.7).
 */
static u8 kvm_memtype_memattr(enum kvm_pgtable_prot prot, bool fwb)
{
	if (prot & KVM_PGTABLE_PROT_DEVICE)
		return 0x1;
	if (prot & KVM_PGTABLE_PROT_NORMAL_NC)
		return 0x5;
	return fwb ? 0x6 : 0xf;
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
enum memtype_kind kvm_arch_memtype_effective(const struct kvm_memtype_intent *intent,
					     enum memtype_kind guest)
{
	bool fwb = kvm_memtype_fwb();

	if (kvm_memtype_stricter(guest, guest) == MEMTYPE_NONE)
		return MEMTYPE_NONE;
	return kvm_memtype_combine(kvm_memtype_memattr(kvm_memtype_to_prot(intent), fwb), fwb,
				   guest);
}

#ifdef CONFIG_KVM_MEMTYPE_KUNIT_TEST
#include "memtype_kunit.c"
#endif
