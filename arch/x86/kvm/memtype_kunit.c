// SPDX-License-Identifier: GPL-2.0-only
/* KUnit tests of the x86 encodings of guest memory types; included by memtype.c. */
#include <kunit/test.h>
#include <asm/apicdef.h>
#include <asm/memtype.h>
#include <asm/set_memory.h>

#define WB	MEMTYPE_WB
#define WT	MEMTYPE_WT
#define WP	MEMTYPE_WP
#define WC	MEMTYPE_WC
#define UCM	MEMTYPE_UC_MINUS
#define UC	MEMTYPE_UC
#define NONE	MEMTYPE_NONE

/* Every intent that the policy can have, by the names of the encoding table. */
static const struct kvm_memtype_intent intent_wb = { .kind = WB };
static const struct kvm_memtype_intent intent_forced_wb = { .kind = WB, .forced = true };
static const struct kvm_memtype_intent intent_wc = { .kind = WC };
static const struct kvm_memtype_intent intent_wt = { .kind = WT };
static const struct kvm_memtype_intent intent_wp = { .kind = WP };
static const struct kvm_memtype_intent intent_uc_ram = {
	.kind = UC, .source = KVM_MEMTYPE_SOURCE_PTE
};

static const struct kvm_memtype_intent intent_any_uncached = {
	.kind = UC, .any_uncached = true, .source = KVM_MEMTYPE_SOURCE_MMIO
};

static const struct kvm_memtype_intent intent_uc = {
	.kind = UC, .source = KVM_MEMTYPE_SOURCE_MMIO
};

/*
 * Bits 6:3 of an EPT leaf entry: Intel SDM vol. 3, section 30.3.7.2 and table
 * "Format of an EPT Page-Table Entry that Maps a 4-KByte Page".
 */
static void kvm_memtype_ept_encoding_test(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, kvm_memtype_ept(&intent_wb), 6 << 3);
	KUNIT_EXPECT_EQ(test, kvm_memtype_ept(&intent_wt), 4 << 3);
	KUNIT_EXPECT_EQ(test, kvm_memtype_ept(&intent_wp), 5 << 3);
	KUNIT_EXPECT_EQ(test, kvm_memtype_ept(&intent_wc), 1 << 3);
	KUNIT_EXPECT_EQ(test, kvm_memtype_ept(&intent_uc_ram), 0 << 3);
	KUNIT_EXPECT_EQ(test, kvm_memtype_ept(&intent_any_uncached), 0 << 3);
	KUNIT_EXPECT_EQ(test, kvm_memtype_ept(&intent_uc), 0 << 3);
	KUNIT_EXPECT_EQ(test, kvm_memtype_ept(&intent_forced_wb), 6 << 3 | 1 << 6);
}

/*
 * Intel SDM vol. 3, section 13.5.2.2, table "Effective Page-Level Memory Types
 * for Pentium III and More Recent Processor Families"; section 30.3.7.2 has the
 * EPT memory type take the place of the MTRR's.
 */
static const struct {
	enum memtype_kind memory, pat, effective;
} kvm_memtype_sdm[] = {
	{ UC, UC, UC }, { UC, UCM, UC }, { UC, WC, WC },
	{ UC, WT, UC }, { UC, WB, UC }, { UC, WP, UC },
	{ WC, UC, UC }, { WC, UCM, WC }, { WC, WC, WC },
	{ WC, WT, UC }, { WC, WB, WC }, { WC, WP, UC },
	{ WT, UC, UC }, { WT, UCM, UC }, { WT, WC, WC },
	{ WT, WT, WT }, { WT, WB, WT }, { WT, WP, WP },
	{ WB, UC, UC }, { WB, UCM, UC }, { WB, WC, WC },
	{ WB, WT, WT }, { WB, WB, WB }, { WB, WP, WP },
	{ WP, UC, UC }, { WP, UCM, WC }, { WP, WC, WC },
	{ WP, WT, WT }, { WP, WB, WP }, { WP, WP, WP },
};

/*
 * AMD APM vol. 2 (24593, revision 3.44), section 15.25.8, table 15-20, "Combining PAT
 * and MTRR Types", which table 7-11 agrees with. CD is UC here, and the row of WC+,
 * which never leaves WC and WC+, is that of WC.
 */
static const struct {
	enum memtype_kind memory, pat, effective;
} kvm_memtype_apm[] = {
	{ UC, UC, UC }, { UC, UCM, UC }, { UC, WC, WC },
	{ UC, WP, UC }, { UC, WT, UC }, { UC, WB, UC },
	{ WC, UC, UC }, { WC, UCM, WC }, { WC, WC, WC },
	{ WC, WP, UC }, { WC, WT, UC }, { WC, WB, WC },
	{ WP, UC, UC }, { WP, UCM, UC }, { WP, WC, WC },
	{ WP, WP, WP }, { WP, WT, UC }, { WP, WB, WP },
	{ WT, UC, UC }, { WT, UCM, UC }, { WT, WC, WC },
	{ WT, WP, UC }, { WT, WT, WT }, { WT, WB, WT },
	{ WB, UC, UC }, { WB, UCM, UC }, { WB, WC, WC },
	{ WB, WP, WP }, { WB, WT, WT }, { WB, WB, WB },
};

static void kvm_memtype_combine_test(struct kunit *test)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(kvm_memtype_sdm); i++) {
		KUNIT_EXPECT_EQ_MSG(test,
				    memtype_combine(kvm_memtype_sdm[i].memory,
						    kvm_memtype_sdm[i].pat, false),
				    kvm_memtype_sdm[i].effective, "SDM: memory %d, PAT %d",
				    kvm_memtype_sdm[i].memory, kvm_memtype_sdm[i].pat);
	}
	for (i = 0; i < ARRAY_SIZE(kvm_memtype_apm); i++) {
		KUNIT_EXPECT_EQ_MSG(test,
				    memtype_combine(kvm_memtype_apm[i].memory,
						    kvm_memtype_apm[i].pat, true),
				    kvm_memtype_apm[i].effective, "APM: memory %d, PAT %d",
				    kvm_memtype_apm[i].memory, kvm_memtype_apm[i].pat);
	}
}

/*
 * L1's EPT over what KVM grants L1, by type: where L1's MT takes the place of a PAT
 * entry in the table above. L1's IPAT stays what it is.
 */
static const struct {
	enum memtype_kind granted, l1, merged;
} kvm_memtype_nested[] = {
	{ WB, UC, UC }, { WB, WC, WC }, { WB, WT, WT }, { WB, WP, WP }, { WB, WB, WB },
	{ WT, UC, UC }, { WT, WC, WC }, { WT, WT, WT }, { WT, WP, WP }, { WT, WB, WT },
	{ WP, UC, UC }, { WP, WC, WC }, { WP, WT, WT }, { WP, WP, WP }, { WP, WB, WP },
	{ WC, UC, UC }, { WC, WC, WC }, { WC, WT, UC }, { WC, WP, UC }, { WC, WB, WC },
	{ UC, UC, UC }, { UC, WC, WC }, { UC, WT, UC }, { UC, WP, UC }, { UC, WB, UC },
};

/* Bits 6:3 of an EPT entry */
static u64 kvm_memtype_entry(enum memtype_kind kind, bool ipat)
{
	static const u8 types[] = { [UC] = 0, [WC] = 1, [WT] = 4, [WP] = 5, [WB] = 6 };

	return types[kind] << 3 | ipat << 6;
}

/*
 * Bits of an SPTE that are none of the type's: suppress-#VE, any frame number, that the
 * page is large, and all permissions
 */
#define OTHER_BITS	(BIT_ULL(63) | 0x123456000ull | BIT_ULL(7) | 7)
/* Bits of L1's entry that are not, either: another frame number, and all permissions */
#define L1_OTHER_BITS	(0xabcdef000ull | 7)

static void kvm_memtype_nested_test(struct kunit *test)
{
	u64 granted, l1, wanted, merged;
	int i, ipat;

	for (i = 0; i < ARRAY_SIZE(kvm_memtype_nested) * 2; i++) {
		ipat = i & 1;
		granted = OTHER_BITS | kvm_memtype_entry(kvm_memtype_nested[i / 2].granted, false);
		/* Of L1's entry nothing else may count. */
		l1 = kvm_memtype_entry(kvm_memtype_nested[i / 2].l1, ipat) | L1_OTHER_BITS;
		wanted = OTHER_BITS | kvm_memtype_entry(kvm_memtype_nested[i / 2].merged, ipat);

		merged = kvm_memtype_merge(granted, ACC_ALL | kvm_memtype_gpte(true, l1));
		KUNIT_EXPECT_EQ_MSG(test, merged, wanted, "row %d, IPAT %d", i / 2, ipat);
		/* An SPTE that is made again from what it is stays what it is. */
		KUNIT_EXPECT_EQ_MSG(test, kvm_memtype_merge(merged, kvm_memtype_gpte(true, l1)),
				    wanted, "row %d, IPAT %d", i / 2, ipat);
		/* Where KVM forces L1, it forces L2. */
		granted = OTHER_BITS | kvm_memtype_ept(&intent_forced_wb);
		KUNIT_EXPECT_EQ(test, kvm_memtype_merge(granted, kvm_memtype_gpte(true, l1)),
				granted);
	}
}

/* Who does not shadow EPT has no bits, and so has an L1 that says WB without IPAT. */
static void kvm_memtype_gpte_test(struct kunit *test)
{
	u64 wb = kvm_memtype_entry(WB, false), uc = kvm_memtype_entry(UC, true);
	u64 spte = OTHER_BITS | kvm_memtype_entry(WC, false);

	KUNIT_EXPECT_EQ(test, kvm_memtype_gpte(true, wb | 7), 0);
	KUNIT_EXPECT_EQ(test, kvm_memtype_gpte(false, uc), 0);
	KUNIT_EXPECT_EQ(test, kvm_memtype_merge(spte, ACC_ALL), spte);
	KUNIT_EXPECT_FALSE(test, kvm_memtype_gpte_changed(true, wb | 7, ACC_ALL));
	KUNIT_EXPECT_TRUE(test, kvm_memtype_gpte_changed(true, uc | 7, ACC_ALL));
	KUNIT_EXPECT_FALSE(test, kvm_memtype_gpte_changed(true, uc, kvm_memtype_gpte(true, uc)));
	KUNIT_EXPECT_TRUE(test, kvm_memtype_gpte_changed(true, kvm_memtype_entry(UC, false),
							 kvm_memtype_gpte(true, uc)));
	KUNIT_EXPECT_FALSE(test, kvm_memtype_gpte_changed(false, uc, ACC_ALL));
}

/* PAT entries, in the order of the columns below. */
static const enum memtype_kind kvm_memtype_pat[] = { WB, WT, WP, WC, UCM, UC };

/*
 * AMD APM vol. 2 (24593, revision 3.44), section 15.25.8, table 15-19, "Combining
 * Guest and Host PAT Types": by the host's type, what the guest's types become. WC+,
 * which a guest's WC is over WP, WT and WB, is WC here.
 */
static const struct {
	enum memtype_kind host, combined[ARRAY_SIZE(kvm_memtype_pat)];
} kvm_memtype_apm_pat[] = {
	/*	 WB  WT  WP  WC  UC-  UC */
	{ UC,  { UC, UC, UC, WC, UC,  UC } },
	{ UCM, { UC, UC, UC, WC, UCM, UC } },
	{ WC,  { WC, UC, UC, WC, WC,  UC } },
	{ WP,  { WP, UC, WP, WC, UC,  UC } },
	{ WT,  { WT, WT, UC, WC, UC,  UC } },
	{ WB,  { WB, WT, WP, WC, UC,  UC } },
};

static void kvm_memtype_apm_pat_test(struct kunit *test)
{
	int i, pat;

	for (i = 0; i < ARRAY_SIZE(kvm_memtype_apm_pat); i++) {
		for (pat = 0; pat < ARRAY_SIZE(kvm_memtype_pat); pat++) {
			KUNIT_EXPECT_EQ_MSG(test, kvm_memtype_npt(kvm_memtype_apm_pat[i].host,
								  kvm_memtype_pat[pat]),
					    kvm_memtype_apm_pat[i].combined[pat],
					    "host %d, guest %d", kvm_memtype_apm_pat[i].host,
					    kvm_memtype_pat[pat]);
		}
	}
}

/*
 * PWT (bit 3) and PCD (bit 4) of a leaf entry of NPT, or of a shadow on SVM: entries 0
 * to 3 of the host's PAT, which Linux has made WB, WC, UC- and UC. Nothing else may be
 * set, and what those cannot say is UC-.
 */
static void kvm_memtype_pat_encoding_test(struct kunit *test)
{
	static const struct {
		enum memtype_kind kind, actual;
		u64 bits;
	} rows[] = {
		{ WB, WB, 0 }, { WC, WC, BIT(3) }, { UC, UCM, BIT(4) },
		{ WT, UCM, BIT(4) }, { WP, UCM, BIT(4) }, { UCM, UCM, BIT(4) },
	};
	int i;

	if (!pat_enabled())
		kunit_skip(test, "the PAT is not Linux's own");
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		enum memtype_kind actual = NONE;

		KUNIT_EXPECT_EQ_MSG(test, memtype_to_pat(rows[i].kind, &actual), rows[i].bits,
				    "row %d", i);
		KUNIT_EXPECT_EQ_MSG(test, actual, rows[i].actual, "row %d", i);
	}
}

/*
 * The same of shadow paging: on SVM an SPTE selects from the host's PAT as well, on VMX
 * it would select from the guest's, so that nothing is encoded.
 */
static void kvm_memtype_shadow_encoding_test(struct kunit *test)
{
	const struct kvm_memtype_intent *intents[] = {
		&intent_forced_wb, &intent_wc, &intent_uc_ram, &intent_uc,
	};
	static const u64 svm[ARRAY_SIZE(intents)] = { 0, BIT(3), BIT(4), BIT(4) };
	u64 bits[ARRAY_SIZE(intents)], mask = kvm_memtype_ept_mask;
	bool tdp = tdp_enabled;
	int i;

	if (!pat_enabled())
		kunit_skip(test, "the PAT is not Linux's own");
	/* As after kvm_amd.npt=0 or kvm_intel.ept=0. There is no VM yet. */
	tdp_enabled = false;
	kvm_memtype_ept_mask = 0;
	for (i = 0; i < ARRAY_SIZE(intents); i++)
		bits[i] = kvm_memtype_encode(intents[i]);
	kvm_memtype_ept_mask = mask;
	tdp_enabled = tdp;

	for (i = 0; i < ARRAY_SIZE(intents); i++)
		KUNIT_EXPECT_EQ_MSG(test, bits[i], boot_cpu_has(X86_FEATURE_SVM) ? svm[i] : 0,
				    "row %d", i);
}

/*
 * What a guest gets, by back end. EPT as above. NPT: the host's entry that is
 * selected, the guest's, and the MTRR that is given, or else WB. Shadow paging: on SVM
 * the same without the guest's, on VMX the MTRR, with a guest whose PAT entry 0 is WB.
 */
static const struct {
	enum kvm_memtype_paging paging;
	const struct kvm_memtype_intent *intent;
	enum memtype_kind effective[ARRAY_SIZE(kvm_memtype_pat)];
	enum memtype_kind mtrr;
} kvm_memtype_back_ends[] = {
	/*					     WB  WT  WP  WC  UC- UC */
	{ KVM_MEMTYPE_EPT,    &intent_wb,	   { WB, WT, WP, WC, UC, UC } },
	{ KVM_MEMTYPE_EPT,    &intent_wc,	   { WC, UC, UC, WC, WC, UC } },
	{ KVM_MEMTYPE_EPT,    &intent_wt,	   { WT, WT, WP, WC, UC, UC } },
	{ KVM_MEMTYPE_EPT,    &intent_wp,	   { WP, WT, WP, WC, WC, UC } },
	{ KVM_MEMTYPE_EPT,    &intent_uc_ram,	   { UC, UC, UC, WC, UC, UC } },
	{ KVM_MEMTYPE_EPT,    &intent_any_uncached, { UC, UC, UC, WC, UC, UC } },
	{ KVM_MEMTYPE_EPT,    &intent_uc,	   { UC, UC, UC, WC, UC, UC } },
	{ KVM_MEMTYPE_EPT,    &intent_forced_wb,   { WB, WB, WB, WB, WB, WB } },
	{ KVM_MEMTYPE_EPT,    &intent_uc,	   { UC, UC, UC, WC, UC, UC }, WB },
	{ KVM_MEMTYPE_NPT,    &intent_wb,	   { WB, WT, WP, WC, UC, UC } },
	{ KVM_MEMTYPE_NPT,    &intent_forced_wb,   { WB, WT, WP, WC, UC, UC } },
	{ KVM_MEMTYPE_NPT,    &intent_wc,	   { WC, UC, UC, WC, WC, UC } },
	{ KVM_MEMTYPE_NPT,    &intent_wt,	   { UC, UC, UC, WC, UC, UC } },
	{ KVM_MEMTYPE_NPT,    &intent_uc_ram,	   { UC, UC, UC, WC, UC, UC } },
	{ KVM_MEMTYPE_NPT,    &intent_any_uncached, { UC, UC, UC, WC, UC, UC }, UC },
	{ KVM_MEMTYPE_NPT,    &intent_uc,	   { UC, UC, UC, WC, UC, UC }, UC },
	{ KVM_MEMTYPE_NPT,    &intent_uc,	   { UC, UC, UC, WC, UC, UC }, WB },
	{ KVM_MEMTYPE_NPT,    &intent_uc,	   { UC, UC, UC, WC, WC, UC }, WC },
	{ KVM_MEMTYPE_NPT,    &intent_wb,	   { UC, UC, UC, WC, UC, UC }, UC },
	{ KVM_MEMTYPE_SHADOW_SVM, &intent_forced_wb, { WB, WB, WB, WB, WB, WB } },
	{ KVM_MEMTYPE_SHADOW_SVM, &intent_wc,	   { WC, WC, WC, WC, WC, WC } },
	{ KVM_MEMTYPE_SHADOW_SVM, &intent_uc_ram,  { UC, UC, UC, UC, UC, UC } },
	{ KVM_MEMTYPE_SHADOW_SVM, &intent_uc,	   { WC, WC, WC, WC, WC, WC }, WC },
	{ KVM_MEMTYPE_SHADOW_SVM, &intent_wb,	   { UC, UC, UC, UC, UC, UC }, UC },
	{ KVM_MEMTYPE_SHADOW_VMX, &intent_forced_wb, { WB, WB, WB, WB, WB, WB } },
	{ KVM_MEMTYPE_SHADOW_VMX, &intent_wc,	   { WB, WB, WB, WB, WB, WB } },
	{ KVM_MEMTYPE_SHADOW_VMX, &intent_uc,	   { UC, UC, UC, UC, UC, UC }, UC },
};

static void kvm_memtype_back_ends_test(struct kunit *test)
{
	int i, pat;

	if (!pat_enabled())
		kunit_skip(test, "the PAT is not Linux's own");
	for (i = 0; i < ARRAY_SIZE(kvm_memtype_back_ends); i++) {
		for (pat = 0; pat < ARRAY_SIZE(kvm_memtype_pat); pat++) {
			KUNIT_EXPECT_EQ_MSG(test,
					    kvm_memtype_effective(kvm_memtype_back_ends[i].paging,
								  kvm_memtype_back_ends[i].mtrr,
								  kvm_memtype_back_ends[i].intent,
								  kvm_memtype_pat[pat]),
					    kvm_memtype_back_ends[i].effective[pat],
					    "row %d, PAT %d", i, kvm_memtype_pat[pat]);
		}
	}
}

/* What L2 gets through a leaf entry of EPT, which must be one that no policy forces. */
static enum memtype_kind kvm_memtype_through(u64 spte, enum memtype_kind pat)
{
	return memtype_combine(kvm_memtype_ept_kind(spte), spte & BIT(6) ? WB : pat, false);
}

/*
 * The same by the model that the table stands for, with L2's PAT: what L1's entry makes
 * of L2's choice on a bare machine is L1's choice for an access to memory of the type
 * that KVM grants; through WB without IPAT, L2's choice is L1's as it is.
 */
static void kvm_memtype_nested_model_test(struct kunit *test)
{
	enum memtype_kind granted, l1, pat, choice, wanted, got;
	int i, inexact = 0;
	u64 spte, entry;

	for (i = 0; i < ARRAY_SIZE(kvm_memtype_nested) * 2 * ARRAY_SIZE(kvm_memtype_pat); i++) {
		pat = kvm_memtype_pat[i % ARRAY_SIZE(kvm_memtype_pat)];
		granted = kvm_memtype_nested[i / ARRAY_SIZE(kvm_memtype_pat) / 2].granted;
		l1 = kvm_memtype_nested[i / ARRAY_SIZE(kvm_memtype_pat) / 2].l1;
		entry = kvm_memtype_entry(l1, i / ARRAY_SIZE(kvm_memtype_pat) & 1);

		choice = pat;
		if (entry != kvm_memtype_entry(WB, false))
			choice = kvm_memtype_through(entry, pat);
		wanted = memtype_combine(granted, choice, false);

		spte = kvm_memtype_merge(kvm_memtype_entry(granted, false),
					 kvm_memtype_gpte(true, entry));
		got = kvm_memtype_through(spte, pat);
		if (granted == UC || granted == WC)
			KUNIT_EXPECT_TRUE(test, got == UC || got == WC);
		if (granted != WB)
			KUNIT_EXPECT_NE(test, got, WB);
		if (got == wanted)
			continue;
		/* No type of EPT is WC for UC- and UC for WB. */
		inexact++;
		KUNIT_EXPECT_TRUE(test, (granted == UC || granted == WC) && l1 == WP &&
				  pat == UCM && wanted == WC && got == UC);
	}
	KUNIT_EXPECT_EQ(test, inexact, 2);
}

/*
 * L1 runs this very code, which tells its own VMM what L2 gets: that must be true
 * where KVM gives L1 write-back memory and does not force it.
 */
static void kvm_memtype_nested_promise_test(struct kunit *test)
{
	static const struct kvm_memtype_intent *intents[] = {
		&intent_wb, &intent_forced_wb, &intent_wc, &intent_wt, &intent_wp,
		&intent_uc_ram, &intent_any_uncached, &intent_uc,
	};
	int i, pat;
	u64 spte;

	for (i = 0; i < ARRAY_SIZE(intents); i++) {
		spte = kvm_memtype_merge(kvm_memtype_ept(&intent_wb),
					 kvm_memtype_gpte(true, kvm_memtype_ept(intents[i])));
		for (pat = 0; pat < ARRAY_SIZE(kvm_memtype_pat); pat++)
			KUNIT_EXPECT_EQ_MSG(test, kvm_memtype_through(spte, kvm_memtype_pat[pat]),
					    kvm_memtype_effective(KVM_MEMTYPE_EPT, NONE, intents[i],
								  kvm_memtype_pat[pat]),
					    "intent %d, PAT %d", i, kvm_memtype_pat[pat]);
	}
}

/*
 * A device that does not snoop needs the guest's own types: with EPT a legacy VM
 * is forced without one, as any VM is on a CPU without self-snoop, and not with
 * one. NPT and shadow paging do not look at devices.
 */
static void kvm_memtype_noncoherent_dma_test(struct kunit *test)
{
	const struct kvm_memtype_host ram = { .kind = WB };
	struct kvm *kvm = kunit_kzalloc(test, sizeof(*kvm), GFP_KERNEL);
	bool ept = kvm_memtype_paging() == KVM_MEMTYPE_EPT;
	bool shadow = !tdp_enabled;

	KUNIT_ASSERT_NOT_NULL(test, kvm);
	kvm->memtype.policy = KVM_MEMTYPE_POLICY_LEGACY;
	KUNIT_EXPECT_EQ(test, kvm_memtype_decide(kvm, NULL, ram).forced, ept || shadow);
	atomic_set(&kvm->arch.noncoherent_dma_count, 1);
	KUNIT_EXPECT_EQ(test, kvm_memtype_decide(kvm, NULL, ram).forced, shadow);
}

/* arm64's types are none here, whatever the intent. */
static void kvm_memtype_foreign_test(struct kunit *test)
{
	const struct kvm_memtype_host host = { .kind = WB };
	const struct kvm_memtype_intent *intents[] = { &intent_forced_wb, &intent_uc, &intent_wb };
	enum memtype_kind kind;
	int i;

	for (i = 0; i < ARRAY_SIZE(intents); i++) {
		for (kind = MEMTYPE_GRE; kind <= MEMTYPE_NGNRNE; kind++)
			KUNIT_EXPECT_EQ(test, kvm_arch_memtype_effective(NULL, &host, intents[i],
									 kind), NONE);
	}
}

static bool kvm_memtype_test_is_mmio(kvm_pfn_t pfn, enum memtype_kind kind)
{
	int is_host_mmio = -1;

	return kvm_memtype_is_mmio(pfn, kind, &is_host_mmio);
}

/* The ISA hole is MMIO where it is not cached, which KVM does not know. */
static void kvm_memtype_isa_hole_test(struct kunit *test)
{
	void *memory = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, memory);
	KUNIT_EXPECT_FALSE(test, kvm_memtype_test_is_mmio(page_to_pfn(virt_to_page(memory)), WC));
	KUNIT_EXPECT_TRUE(test, kvm_memtype_test_is_mmio(0xa0, UC));
	KUNIT_EXPECT_TRUE(test, kvm_memtype_test_is_mmio(0xff, UCM));
	KUNIT_EXPECT_TRUE(test, kvm_memtype_test_is_mmio(0xff, WC));
	KUNIT_EXPECT_FALSE(test, kvm_memtype_test_is_mmio(0xff, WP));
	KUNIT_EXPECT_FALSE(test, kvm_memtype_test_is_mmio(0xff, WB));
}

/* Where no MTRRs say what is in it, VGA's part is UC, and the rest memory. */
static void kvm_memtype_isa_hole_type_test(struct kunit *test)
{
	static const struct {
		unsigned long pfn;
		enum memtype_kind kind;
	} rows[] = {
		{ 0xa0, UC }, { 0xbf, UC }, { 0xc0, WB }, { 0xff, WB },
	};
	enum memtype_kind mtrr;
	int i;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		mtrr = mtrr_pfn_memtype(rows[i].pfn);
		KUNIT_EXPECT_EQ_MSG(test, pfn_memtype(rows[i].pfn, WB),
				    mtrr == NONE ? rows[i].kind : mtrr, "row %d", i);
	}
}

/* IA32_MTRR_DEF_TYPE, whose bit E says that the MTRRs are on */
#define MTRR_DEF_TYPE_MSR	0x2ff

/* The local APIC is no memory, whatever the MTRRs say of it, and say they do if they are on. */
static void kvm_memtype_host_test(struct kunit *test)
{
	const struct memtype_mapping map = {
		.present = true, .kind = UCM, .pfn = PFN_DOWN(APIC_DEFAULT_PHYS_BASE),
	};
	struct kvm_memtype_host host = kvm_arch_memtype_host(NULL, &map);
	u64 mtrrs = 0;

	KUNIT_EXPECT_EQ(test, host.kind, UCM);
	KUNIT_EXPECT_TRUE(test, host.mmio);
	KUNIT_EXPECT_EQ(test, host.platform, mtrr_pfn_memtype(map.pfn));
	if (cpu_feature_enabled(X86_FEATURE_MTRR))
		mtrrs = native_read_msr(MTRR_DEF_TYPE_MSR);
	KUNIT_EXPECT_EQ(test, host.platform == NONE, !(mtrrs & MTRR_DEF_TYPE_E));
}

/*
 * A page of memory has the less cached one of the types of the entry and of the page
 * flags, whichever that is.
 */
static void kvm_memtype_pfn_test(struct kunit *test)
{
	struct page *page;
	unsigned long pfn;
	int i, failed;

	if (!pat_enabled())
		kunit_skip(test, "the PAT is not Linux's own");
	page = alloc_page(GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, page);
	pfn = page_to_pfn(page);
	for (i = 0; i < ARRAY_SIZE(kvm_memtype_pat); i++)
		KUNIT_EXPECT_EQ(test, pfn_memtype(pfn, kvm_memtype_pat[i]), kvm_memtype_pat[i]);
	KUNIT_EXPECT_TRUE(test, arch_memtype_is_one(pfn, 1));

	KUNIT_EXPECT_EQ(test, set_pages_array_wc(&page, 1), 0);
	KUNIT_EXPECT_EQ(test, pfn_memtype(pfn, WB), WC);
	KUNIT_EXPECT_EQ(test, pfn_memtype(pfn, WC), WC);
	KUNIT_EXPECT_EQ(test, pfn_memtype(pfn, UCM), UCM);
	failed = set_pages_array_wb(&page, 1);
	KUNIT_EXPECT_EQ(test, failed, 0);
	/* Nobody else expects uncached memory, so rather lose it. */
	if (failed)
		return;
	KUNIT_EXPECT_EQ(test, pfn_memtype(pfn, WB), WB);
	__free_page(page);
}

/* The PAT bit of an entry of 4 KiB is elsewhere in a large one, where PSE has its place. */
static void kvm_memtype_leaf_test(struct kunit *test)
{
	struct memtype_leaf leaf;
	struct page *page;
	int i;

	if (!pat_enabled())
		kunit_skip(test, "the PAT is not Linux's own");
	page = alloc_page(GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, page);
	leaf.pfn = page_to_pfn(page);
	for (i = 0; i < ARRAY_SIZE(kvm_memtype_pat); i++) {
		static const enum page_cache_mode modes[] = {
			_PAGE_CACHE_MODE_WB, _PAGE_CACHE_MODE_WT, _PAGE_CACHE_MODE_WP,
			_PAGE_CACHE_MODE_WC, _PAGE_CACHE_MODE_UC_MINUS, _PAGE_CACHE_MODE_UC,
		};
		u64 bits = cachemode2protval(modes[i]);

		leaf.size = PAGE_SIZE;
		leaf.prot = __pgprot(_PAGE_PRESENT | bits);
		KUNIT_EXPECT_EQ_MSG(test, arch_memtype_kind(&leaf), kvm_memtype_pat[i], "%d", i);
		leaf.size = PMD_SIZE;
		leaf.prot = __pgprot(_PAGE_PRESENT | _PAGE_PSE | protval_4k_2_large(bits));
		KUNIT_EXPECT_EQ_MSG(test, arch_memtype_kind(&leaf), kvm_memtype_pat[i], "%d", i);
	}
	__free_page(page);
}

static struct kunit_case kvm_memtype_x86_cases[] = {
	KUNIT_CASE(kvm_memtype_ept_encoding_test),
	KUNIT_CASE(kvm_memtype_combine_test),
	KUNIT_CASE(kvm_memtype_apm_pat_test),
	KUNIT_CASE(kvm_memtype_pat_encoding_test),
	KUNIT_CASE(kvm_memtype_shadow_encoding_test),
	KUNIT_CASE(kvm_memtype_nested_test),
	KUNIT_CASE(kvm_memtype_gpte_test),
	KUNIT_CASE(kvm_memtype_back_ends_test),
	KUNIT_CASE(kvm_memtype_nested_model_test),
	KUNIT_CASE(kvm_memtype_nested_promise_test),
	KUNIT_CASE(kvm_memtype_noncoherent_dma_test),
	KUNIT_CASE(kvm_memtype_foreign_test),
	KUNIT_CASE(kvm_memtype_isa_hole_test),
	KUNIT_CASE(kvm_memtype_isa_hole_type_test),
	KUNIT_CASE(kvm_memtype_host_test),
	KUNIT_CASE(kvm_memtype_pfn_test),
	KUNIT_CASE(kvm_memtype_leaf_test),
	{}
};

static struct kunit_suite kvm_memtype_x86_suite = {
	.name = "kvm_memtype_x86",
	.test_cases = kvm_memtype_x86_cases,
};

kunit_test_suite(kvm_memtype_x86_suite);
