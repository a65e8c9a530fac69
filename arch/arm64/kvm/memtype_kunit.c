// SPDX-License-Identifier: GPL-2.0-only
/* KUnit tests of the arm64 encodings of guest memory types; included by memtype.c. */
#include <kunit/test.h>

#define WB	MEMTYPE_WB
#define WT	MEMTYPE_WT
#define NC	MEMTYPE_WC
#define GRE	MEMTYPE_GRE
#define NGRE	MEMTYPE_NGRE
#define NGNRE	MEMTYPE_UC
#define NGNRNE	MEMTYPE_NGNRNE
#define NONE	MEMTYPE_NONE

/*
 * The encoding table, MemAttr[3:0] without and with FWB, and with FWB in stage-1
 * mode: Arm ARM D8.6.
 */
static const struct {
	struct kvm_memtype_intent intent;
	enum kvm_pgtable_prot prot;
	u8 memattr, memattr_fwb, memattr_stage1;
} kvm_memtype_encodings[] = {
	{ { .kind = MEMTYPE_WB },			0, 0xf, 0x6, 0x7 },
	{ { .kind = MEMTYPE_WB, .forced = true },	0, 0xf, 0x6, 0x7 },
	{ { .kind = MEMTYPE_WC },			KVM_PGTABLE_PROT_NORMAL_NC, 0x5, 0x5, 0x5 },
	{ { .kind = MEMTYPE_UC, .any_uncached = true }, KVM_PGTABLE_PROT_NORMAL_NC, 0x5, 0x5, 0x5 },
	{ { .kind = MEMTYPE_UC },			KVM_PGTABLE_PROT_DEVICE, 0x1, 0x1, 0x1 },
};

static void kvm_memtype_encoding_test(struct kunit *test)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(kvm_memtype_encodings); i++) {
		enum kvm_pgtable_prot prot = kvm_memtype_to_prot(&kvm_memtype_encodings[i].intent);

		KUNIT_EXPECT_EQ_MSG(test, prot, kvm_memtype_encodings[i].prot, "row %d", i);
		KUNIT_EXPECT_EQ_MSG(test, kvm_memtype_memattr(prot, 0xf),
				    kvm_memtype_encodings[i].memattr, "row %d", i);
		KUNIT_EXPECT_EQ_MSG(test, kvm_memtype_memattr(prot, 0x6),
				    kvm_memtype_encodings[i].memattr_fwb, "row %d, FWB", i);
		KUNIT_EXPECT_EQ_MSG(test, kvm_memtype_memattr(prot, 0x7),
				    kvm_memtype_encodings[i].memattr_stage1, "row %d, stage 1", i);
	}
}

/* Stage-1 types, in the order of the columns below. */
static const enum memtype_kind kvm_memtype_stage1[] = {
	NGNRNE, NGNRE, NGRE, GRE, NC, WT, WB
};

/*
 * By MemAttr[3:0]. Without FWB: Arm ARM D8.6, R_HMNDG, R_TNHFM, R_GQFSF. With
 * it: R_VRJSW and R_RHWZM; MemAttr[3] is 0, 0x4 is reserved. FWB does not
 * change how stage 2 Device is combined (QEMU 7.2 has it force the subtype).
 */
static const struct {
	bool fwb;
	u8 memattr;
	enum memtype_kind effective[ARRAY_SIZE(kvm_memtype_stage1)];
} kvm_memtype_combined[] = {
	/*		 nGnRnE	 nGnRE	 nGRE	 GRE	 NC	 WT	 WB */
	{ false, 0x0, { NGNRNE, NGNRNE, NGNRNE, NGNRNE, NGNRNE, NGNRNE, NGNRNE } },
	{ false, 0x1, { NGNRNE, NGNRE,  NGNRE,  NGNRE,  NGNRE,  NGNRE,  NGNRE } },
	{ false, 0x2, { NGNRNE, NGNRE,  NGRE,   NGRE,   NGRE,   NGRE,   NGRE } },
	{ false, 0x3, { NGNRNE, NGNRE,  NGRE,   GRE,    GRE,    GRE,    GRE } },
	{ false, 0x5, { NGNRNE, NGNRE,  NGRE,   GRE,    NC,     NC,     NC } },
	{ false, 0xa, { NGNRNE, NGNRE,  NGRE,   GRE,    NC,     WT,     WT } },
	{ false, 0xf, { NGNRNE, NGNRE,  NGRE,   GRE,    NC,     WT,     WB } },

	{ true,  0x0, { NGNRNE, NGNRNE, NGNRNE, NGNRNE, NGNRNE, NGNRNE, NGNRNE } },
	{ true,  0x1, { NGNRNE, NGNRE,  NGNRE,  NGNRE,  NGNRE,  NGNRE,  NGNRE } },
	{ true,  0x2, { NGNRNE, NGNRE,  NGRE,   NGRE,   NGRE,   NGRE,   NGRE } },
	{ true,  0x3, { NGNRNE, NGNRE,  NGRE,   GRE,    GRE,    GRE,    GRE } },
	{ true,  0x4, { NONE,   NONE,   NONE,   NONE,   NONE,   NONE,   NONE } },
	{ true,  0x5, { NGNRNE, NGNRE,  NGRE,   GRE,    NC,     NC,     NC } },
	{ true,  0x6, { WB,     WB,     WB,     WB,     WB,     WB,     WB } },
	{ true,  0x7, { NGNRNE, NGNRE,  NGRE,   GRE,    NC,     WT,     WB } },
};

static void kvm_memtype_combine_test(struct kunit *test)
{
	int i, n;

	for (i = 0; i < ARRAY_SIZE(kvm_memtype_combined); i++) {
		bool fwb = kvm_memtype_combined[i].fwb;
		u8 memattr = kvm_memtype_combined[i].memattr;

		for (n = 0; n < ARRAY_SIZE(kvm_memtype_stage1); n++)
			KUNIT_EXPECT_EQ_MSG(test,
					    kvm_memtype_combine(memattr, fwb,
								kvm_memtype_stage1[n]),
					    kvm_memtype_combined[i].effective[n],
					    "FWB %d, MemAttr %#x, stage 1 %d",
					    fwb, memattr, kvm_memtype_stage1[n]);
	}
}

/* x86's types are none here. */
static void kvm_memtype_foreign_test(struct kunit *test)
{
	const struct kvm_memtype_intent ram = { .kind = MEMTYPE_WB };

	KUNIT_EXPECT_EQ(test, kvm_arch_memtype_effective(NULL, NULL, &ram, MEMTYPE_WP), NONE);
	KUNIT_EXPECT_EQ(test, kvm_arch_memtype_effective(NULL, NULL, &ram, MEMTYPE_UC_MINUS), NONE);
}

/* Arm ARM, MAIR_EL1: the encoding of Attr<n>, with FEAT_XS and FEAT_MTE2. */
static const struct {
	u8 attr;
	enum memtype_kind kind;
} kvm_memtype_mair[] = {
	{ 0x00, NGNRNE }, { 0x04, NGNRE }, { 0x08, NGRE }, { 0x0c, GRE },
	{ 0x01, NGNRNE }, { 0x05, NGNRE }, { 0x02, NONE }, { 0x0f, NONE },
	{ 0x44, NC }, { 0x40, NC }, { 0x4f, NC }, { 0xf4, NC },
	{ 0xbb, WT }, { 0x88, WT }, { 0x33, WT }, { 0xa0, WT }, { 0xfb, WT }, { 0xbf, WT },
	{ 0xff, WB }, { 0xcc, WB }, { 0x77, WB }, { 0xf0, WB },
	{ 0x10, NONE }, { 0xe0, NONE },
};

static void kvm_memtype_mair_test(struct kunit *test)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(kvm_memtype_mair); i++)
		KUNIT_EXPECT_EQ_MSG(test, mair_memtype(kvm_memtype_mair[i].attr),
				    kvm_memtype_mair[i].kind, "%#x", kvm_memtype_mair[i].attr);
}

/* The kernel makes Normal Non-cacheable what works, and a guest gets no more than that. */
static void kvm_memtype_broken_nc_test(struct kunit *test)
{
	enum memtype_kind kind;
	unsigned long flags;
	bool any_uncached;
	u64 mair;

	KUNIT_EXPECT_EQ(test, mair_index_memtype(MT_NORMAL_NC), NC);
	KUNIT_EXPECT_TRUE(test, kvm_arch_memtype_any_uncached(VM_ALLOW_ANY_UNCACHED));
	KUNIT_EXPECT_FALSE(test, kvm_arch_memtype_any_uncached(VM_IO | VM_PFNMAP));

	local_irq_save(flags);
	mair = read_sysreg(mair_el1);
	write_sysreg((mair & ~MAIR_ATTRIDX(MAIR_ATTR_MASK, MT_NORMAL_NC)) |
		     MAIR_ATTRIDX(0x04ull, MT_NORMAL_NC), mair_el1);
	isb();
	kind = mair_index_memtype(MT_NORMAL_NC);
	any_uncached = kvm_arch_memtype_any_uncached(VM_ALLOW_ANY_UNCACHED);
	write_sysreg(mair, mair_el1);
	isb();
	local_irq_restore(flags);

	KUNIT_EXPECT_EQ(test, kind, NGNRE);
	KUNIT_EXPECT_FALSE(test, any_uncached);
}

/* No machine has persistent memory; page frame 0 is not memory on any of them. */
static void kvm_memtype_dax_test(struct kunit *test)
{
	const struct memtype_mapping dax = { .kind = WB }, device = { .kind = WB, .flags = VM_IO };
	struct kvm *kvm = kunit_kzalloc(test, sizeof(*kvm), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, kvm);
	KUNIT_ASSERT_FALSE(test, pfn_is_map_memory(0));
	kvm->memtype.policy = KVM_MEMTYPE_POLICY_HONOR;
	KUNIT_EXPECT_FALSE(test, kvm_arch_memtype_host(kvm, &dax).mmio);
	KUNIT_EXPECT_TRUE(test, kvm_arch_memtype_host(kvm, &device).mmio);
	kvm->memtype.policy = KVM_MEMTYPE_POLICY_LEGACY;
	KUNIT_EXPECT_EQ(test, kvm_arch_memtype_host(kvm, &dax).mmio, KVM_MEMTYPE_LEGACY_IS_DEVICE);
	/* Otherwise it looks into the stage 2 of the VM. */
	if (KVM_MEMTYPE_LEGACY_IS_DEVICE)
		KUNIT_EXPECT_EQ(test, kvm_arch_memtype_cached_mmio(kvm), KVM_MEMTYPE_MMIO_UC);
}

static struct kunit_case kvm_memtype_arm64_cases[] = {
	KUNIT_CASE(kvm_memtype_encoding_test),
	KUNIT_CASE(kvm_memtype_combine_test),
	KUNIT_CASE(kvm_memtype_foreign_test),
	KUNIT_CASE(kvm_memtype_mair_test),
	KUNIT_CASE(kvm_memtype_broken_nc_test),
	KUNIT_CASE(kvm_memtype_dax_test),
	{}
};

static struct kunit_suite kvm_memtype_arm64_suite = {
	.name = "kvm_memtype_arm64",
	.test_cases = kvm_memtype_arm64_cases,
};

kunit_test_suite(kvm_memtype_arm64_suite);
