// SPDX-License-Identifier: GPL-2.0-only
/* KUnit tests of the policy of guest memory types; included by memtype.c. */
#include <kunit/test.h>

#define GUEST	KVM_MEMTYPE_CONTROL_GUEST
#define UNSAFE	KVM_MEMTYPE_CONTROL_UNSAFE
#define HOST	KVM_MEMTYPE_CONTROL_HOST
#define HONOR	KVM_MEMTYPE_POLICY_HONOR
#define LEGACY	KVM_MEMTYPE_POLICY_LEGACY
#define RAM	KVM_MEMTYPE_SOURCE_RAM
#define MMIO	KVM_MEMTYPE_SOURCE_MMIO
#define PTE	KVM_MEMTYPE_SOURCE_PTE
#define CPU	KVM_MEMTYPE_SOURCE_CPU
#define POLICY	KVM_MEMTYPE_SOURCE_POLICY
#define SLOT	KVM_MEMTYPE_SOURCE_SLOT

/* Every combination: [slot forces][policy is legacy][legacy forces][non-coherent DMA]. */
static const struct {
	enum kvm_memtype_control control;
	u8 source[2][2][2][2];
} kvm_memtype_policies[] = {
	{ GUEST,  { { { { RAM, RAM }, { RAM, RAM } }, { { RAM, RAM }, { POLICY, RAM } } },
		    { { { SLOT, RAM }, { SLOT, RAM } }, { { SLOT, RAM }, { SLOT, RAM } } } } },
	{ UNSAFE, { { { { CPU, RAM }, { CPU, RAM } }, { { CPU, RAM }, { CPU, RAM } } },
		    { { { CPU, RAM }, { CPU, RAM } }, { { CPU, RAM }, { CPU, RAM } } } } },
	{ HOST,	  { { { { CPU, CPU }, { CPU, CPU } }, { { CPU, CPU }, { CPU, CPU } } },
		    { { { CPU, CPU }, { CPU, CPU } }, { { CPU, CPU }, { CPU, CPU } } } } },
};

static void kvm_memtype_policy_test(struct kunit *test)
{
	int i, n;

	for (i = 0; i < ARRAY_SIZE(kvm_memtype_policies); i++) {
		for (n = 0; n < 16; n++) {
			bool slot = n & 8, legacy = n & 4, forces = n & 2, dma = n & 1;
			u8 source;

			source = kvm_memtype_ram_source(kvm_memtype_policies[i].control,
							legacy ? LEGACY : HONOR, forces, slot,
							dma);
			KUNIT_EXPECT_EQ_MSG(test, source,
					    kvm_memtype_policies[i].source[slot][legacy][forces]
									  [dma],
					    "control %d, slot %d, legacy %d, forces %d, DMA %d",
					    kvm_memtype_policies[i].control, slot, legacy, forces,
					    dma);
		}
	}
}

static void expect_refusal(struct kunit *test, struct kvm_memtype_intent intent, u8 refusal)
{
	KUNIT_EXPECT_EQ(test, intent.kind, MEMTYPE_NONE);
	KUNIT_EXPECT_EQ(test, intent.source, KVM_MEMTYPE_SOURCE_NONE);
	KUNIT_EXPECT_EQ(test, intent.refusal, refusal);
}

/*
 * What the host does not cache keeps its type, under every policy and in every slot, unless
 * pKVM's hypervisor does not map it.
 */
static void kvm_memtype_host_wins_test(struct kunit *test)
{
	static const struct {
		struct kvm_memtype_host host;
		enum memtype_kind kind;
		bool any_uncached;
		u8 source;
	} rows[] = {
		{ { .kind = MEMTYPE_WC }, MEMTYPE_WC, false, PTE },
		{ { .kind = MEMTYPE_UC }, MEMTYPE_UC, false, PTE },
		{ { .kind = MEMTYPE_UC_MINUS }, MEMTYPE_UC, false, PTE },
		{ { .kind = MEMTYPE_NGNRNE }, MEMTYPE_UC, false, PTE },
		{ { .kind = MEMTYPE_WT }, MEMTYPE_WT, false, PTE },
		{ { .kind = MEMTYPE_WP }, MEMTYPE_WP, false, PTE },
		{ { .kind = MEMTYPE_NONE }, MEMTYPE_UC, false, PTE },
		{ { .kind = MEMTYPE_UC, .mmio = true }, MEMTYPE_UC, false, MMIO },
		{ { .kind = MEMTYPE_UC, .mmio = true, .any_uncached = true }, MEMTYPE_UC, true,
		  MMIO },
		{ { .kind = MEMTYPE_WC, .mmio = true }, MEMTYPE_UC, false, MMIO },
		{ { .kind = MEMTYPE_WC, .mmio = true, .any_uncached = true }, MEMTYPE_UC, true,
		  MMIO },
	};
	const struct kvm_memory_slot forced = { .flags = KVM_MEM_FORCE_WB };
	u8 policy = kvm_memtype_default_policy;
	int i, n;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		for (n = 0; n < 4; n++) {
			struct kvm_memtype_intent intent;

			kvm_memtype_default_policy = n & 1 ? LEGACY : HONOR;
			intent = kvm_memtype_decide(NULL, n & 2 ? &forced : NULL, rows[i].host);
			if (kvm_arch_memtype_only_ram()) {
				expect_refusal(test, intent, KVM_MEMTYPE_REFUSAL_HYPERVISOR);
				continue;
			}
			KUNIT_EXPECT_EQ_MSG(test, intent.kind, rows[i].kind, "row %d", i);
			KUNIT_EXPECT_EQ_MSG(test, intent.any_uncached, rows[i].any_uncached,
					    "row %d", i);
			KUNIT_EXPECT_EQ_MSG(test, intent.source, rows[i].source, "row %d", i);
			KUNIT_EXPECT_FALSE(test, intent.forced);
			KUNIT_EXPECT_EQ(test, intent.refusal, KVM_MEMTYPE_REFUSAL_NONE);
		}
	}
	kvm_memtype_default_policy = policy;
}

/* MMIO that the host caches is cached, UC or refused, as the architecture says. */
static void kvm_memtype_cached_mmio_test(struct kunit *test)
{
	static const enum memtype_kind kinds[] = { MEMTYPE_WB, MEMTYPE_WT, MEMTYPE_WP };
	int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		const struct kvm_memtype_host host = { .kind = kinds[i], .mmio = true };
		struct kvm_memtype_intent intent = kvm_memtype_decide(NULL, NULL, host);

		switch (kvm_arch_memtype_cached_mmio(NULL)) {
		case KVM_MEMTYPE_MMIO_REFUSED:
			expect_refusal(test, intent, kvm_arch_memtype_only_ram() ?
				       KVM_MEMTYPE_REFUSAL_HYPERVISOR :
				       KVM_MEMTYPE_REFUSAL_CACHEABLE);
			break;
		case KVM_MEMTYPE_MMIO_UC:
			KUNIT_EXPECT_EQ(test, intent.kind, MEMTYPE_UC);
			KUNIT_EXPECT_EQ(test, intent.source, KVM_MEMTYPE_SOURCE_MMIO);
			KUNIT_EXPECT_EQ(test, intent.refusal, KVM_MEMTYPE_REFUSAL_NONE);
			break;
		case KVM_MEMTYPE_MMIO_CACHED:
			KUNIT_EXPECT_EQ(test, intent.kind, kinds[i]);
			KUNIT_EXPECT_EQ(test, intent.refusal, KVM_MEMTYPE_REFUSAL_NONE);
			break;
		}
	}
}

static void kvm_memtype_param_test(struct kunit *test)
{
	u8 policy = kvm_memtype_default_policy;

	KUNIT_EXPECT_EQ(test, kvm_memtype_param_set("legacy\n", NULL), 0);
	KUNIT_EXPECT_EQ(test, kvm_memtype_default_policy, LEGACY);
	KUNIT_EXPECT_EQ(test, kvm_memtype_param_set("off", NULL), -EINVAL);
	KUNIT_EXPECT_EQ(test, kvm_memtype_param_set("", NULL), -EINVAL);
	KUNIT_EXPECT_EQ(test, kvm_memtype_default_policy, LEGACY);
	KUNIT_EXPECT_EQ(test, kvm_memtype_param_set("honor", NULL), 0);
	KUNIT_EXPECT_EQ(test, kvm_memtype_default_policy, HONOR);
	kvm_memtype_default_policy = policy;
}

static struct kunit_case kvm_memtype_cases[] = {
	KUNIT_CASE(kvm_memtype_policy_test),
	KUNIT_CASE(kvm_memtype_host_wins_test),
	KUNIT_CASE(kvm_memtype_cached_mmio_test),
	KUNIT_CASE(kvm_memtype_param_test),
	{}
};

static struct kunit_suite kvm_memtype_suite = {
	.name = "kvm_memtype",
	.test_cases = kvm_memtype_cases,
};

kunit_test_suite(kvm_memtype_suite);
