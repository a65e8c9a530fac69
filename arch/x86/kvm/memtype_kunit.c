// SPDX-License-Identifier: GPL-2.0-only
/* KUnit tests of the x86 encodings of guest memory types; included by memtype.c. */
#include <kunit/test.h>

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

static void kvm_memtype_sdm_test(struct kunit *test)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(kvm_memtype_sdm); i++) {
		KUNIT_EXPECT_EQ_MSG(test,
				    kvm_memtype_combine(kvm_memtype_sdm[i].memory,
							kvm_memtype_sdm[i].pat),
				    kvm_memtype_sdm[i].effective, "memory %d, PAT %d",
				    kvm_memtype_sdm[i].memory, kvm_memtype_sdm[i].pat);
	}
}

/* Guest PAT entries, in the order of the columns below. */
static const enum memtype_kind kvm_memtype_pat[] = { WB, WT, WP, WC, UCM, UC };

/*
 * What a guest gets, by back end. EPT as above. NPT: AMD APM vol. 2, section
 * 15.25.8: the guest's PAT with a nested type of WB is the guest's PAT; then
 * section 7.8.4, table "Combined Effect of MTRRs and PAT Memory Types", with
 * the MTRR that is given, or else of RAM (WB) or of MMIO (UC), since KVM encodes
 * nothing there. Shadow paging: WB with that MTRR.
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
	{ KVM_MEMTYPE_NPT,    &intent_wb,	   { WB, WT, WP, WC, UC, UC } },
	{ KVM_MEMTYPE_NPT,    &intent_forced_wb,   { WB, WT, WP, WC, UC, UC } },
	{ KVM_MEMTYPE_NPT,    &intent_wc,	   { WB, WT, WP, WC, UC, UC } },
	{ KVM_MEMTYPE_NPT,    &intent_uc_ram,	   { WB, WT, WP, WC, UC, UC } },
	{ KVM_MEMTYPE_NPT,    &intent_any_uncached, { UC, UC, UC, WC, UC, UC } },
	{ KVM_MEMTYPE_NPT,    &intent_uc,	   { UC, UC, UC, WC, UC, UC } },
	{ KVM_MEMTYPE_NPT,    &intent_uc,	   { WB, WT, WP, WC, UC, UC }, WB },
	{ KVM_MEMTYPE_NPT,    &intent_uc,	   { WC, UC, UC, WC, WC, UC }, WC },
	{ KVM_MEMTYPE_SHADOW, &intent_forced_wb,   { WB, WB, WB, WB, WB, WB } },
	{ KVM_MEMTYPE_SHADOW, &intent_wb,	   { WB, WB, WB, WB, WB, WB } },
	{ KVM_MEMTYPE_SHADOW, &intent_wc,	   { WB, WB, WB, WB, WB, WB } },
	{ KVM_MEMTYPE_SHADOW, &intent_any_uncached, { UC, UC, UC, UC, UC, UC } },
	{ KVM_MEMTYPE_SHADOW, &intent_uc,	   { UC, UC, UC, UC, UC, UC } },
	{ KVM_MEMTYPE_SHADOW, &intent_uc,	   { WB, WB, WB, WB, WB, WB }, WB },
	{ KVM_MEMTYPE_EPT,    &intent_uc,	   { UC, UC, UC, WC, UC, UC }, WB },
};

static void kvm_memtype_back_ends_test(struct kunit *test)
{
	int i, pat;

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
	bool shadow = kvm_memtype_paging() == KVM_MEMTYPE_SHADOW;

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

/*
 * What a page is, by kvm_is_mmio_pfn() and PAT. Page frames above 1 MiB, and in the
 * ISA hole, which the former takes for memory.
 */
static void kvm_memtype_host_test(struct kunit *test)
{
	static const struct {
		kvm_pfn_t pfn;
		bool mmio;
		enum memtype_kind pat;
		struct kvm_memtype_host host;
	} rows[] = {
		{ 0x100000, false, WB, { .kind = WB } },
		{ 0x100000, false, WC, { .kind = WC } },
		{ 0x100000, false, UCM, { .kind = UCM } },
		{ 0x100000, false, WT, { .kind = WT } },
		{ 0x100000, false, NONE, { .kind = WB } },
		{ 0x100000, true, NONE, { .kind = UC, .mmio = true } },
		{ 0x100000, true, WB, { .kind = UC, .mmio = true } },
		{ 0x100000, true, WC, { .kind = WC, .mmio = true } },
		{ 0x100000, true, UCM, { .kind = UCM, .mmio = true } },
		{ 0xa0, false, UC, { .kind = UC, .mmio = true } },
		{ 0xff, false, WP, { .kind = WP, .mmio = true } },
		{ 0xff, false, WB, { .kind = WB } },
		{ 0x9f, false, WB, { .kind = WB } },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		struct kvm_memtype_host host;

		host = kvm_memtype_host(rows[i].pfn, rows[i].mmio, rows[i].pat);
		KUNIT_EXPECT_EQ_MSG(test, host.kind, rows[i].host.kind, "row %d", i);
		KUNIT_EXPECT_EQ_MSG(test, host.mmio, rows[i].host.mmio, "row %d", i);
	}
}

static struct kunit_case kvm_memtype_x86_cases[] = {
	KUNIT_CASE(kvm_memtype_ept_encoding_test),
	KUNIT_CASE(kvm_memtype_sdm_test),
	KUNIT_CASE(kvm_memtype_back_ends_test),
	KUNIT_CASE(kvm_memtype_noncoherent_dma_test),
	KUNIT_CASE(kvm_memtype_foreign_test),
	KUNIT_CASE(kvm_memtype_host_test),
	{}
};

static struct kunit_suite kvm_memtype_x86_suite = {
	.name = "kvm_memtype_x86",
	.test_cases = kvm_memtype_x86_cases,
};

kunit_test_suite(kvm_memtype_x86_suite);
