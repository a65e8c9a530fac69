// SPDX-License-Identifier: GPL-2.0-only
/* KUnit tests of the policy of guest memory types; included by memtype.c. */
#include <kunit/test.h>

#define GUEST	KVM_MEMTYPE_CONTROL_GUEST
#define UNSAFE	KVM_MEMTYPE_CONTROL_UNSAFE
#define HOST	KVM_MEMTYPE_CONTROL_HOST
#define HONOR	KVM_MEMTYPE_POLICY_HONOR
#define LEGACY	KVM_MEMTYPE_POLICY_LEGACY
#define RAM	KVM_MEMTYPE_SOURCE_RAM
#define CPU	KVM_MEMTYPE_SOURCE_CPU
#define POLICY	KVM_MEMTYPE_SOURCE_POLICY

/* Every combination: [policy is legacy][legacy forces][non-coherent DMA]. */
static const struct {
	enum kvm_memtype_control control;
	u8 source[2][2][2];
} kvm_memtype_policies[] = {
	{ GUEST,  { { { RAM, RAM }, { RAM, RAM } }, { { RAM, RAM }, { POLICY, RAM } } } },
	{ UNSAFE, { { { CPU, RAM }, { CPU, RAM } }, { { CPU, RAM }, { CPU, RAM } } } },
	{ HOST,	  { { { CPU, CPU }, { CPU, CPU } }, { { CPU, CPU }, { CPU, CPU } } } },
};

static void kvm_memtype_policy_test(struct kunit *test)
{
	int i, n;

	for (i = 0; i < ARRAY_SIZE(kvm_memtype_policies); i++) {
		for (n = 0; n < 8; n++) {
			bool legacy = n & 4, forces = n & 2, dma = n & 1;

			KUNIT_EXPECT_EQ_MSG(test,
					    kvm_memtype_ram_source(kvm_memtype_policies[i].control,
								   legacy ? LEGACY : HONOR,
								   forces, dma),
					    kvm_memtype_policies[i].source[legacy][forces][dma],
					    "control %d, legacy %d, forces %d, DMA %d",
					    kvm_memtype_policies[i].control, legacy, forces, dma);
		}
	}
}

/* What the host does not cache stays uncached under every policy. */
static void kvm_memtype_mmio_test(struct kunit *test)
{
	u8 policy = kvm_memtype_default_policy;
	int n;

	for (n = 0; n < 4; n++) {
		bool legacy = n & 2, any_uncached = n & 1;
		struct kvm_memtype_intent intent;

		kvm_memtype_default_policy = legacy ? LEGACY : HONOR;
		intent = kvm_memtype_decide(NULL, memtype_of_page(true, any_uncached));
		KUNIT_EXPECT_EQ(test, intent.kind, MEMTYPE_UC);
		KUNIT_EXPECT_EQ(test, intent.any_uncached, any_uncached);
		KUNIT_EXPECT_FALSE(test, intent.forced);
		KUNIT_EXPECT_EQ(test, intent.source, KVM_MEMTYPE_SOURCE_MMIO);
	}
	kvm_memtype_default_policy = policy;
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
	KUNIT_CASE(kvm_memtype_mmio_test),
	KUNIT_CASE(kvm_memtype_param_test),
	{}
};

static struct kunit_suite kvm_memtype_suite = {
	.name = "kvm_memtype",
	.test_cases = kvm_memtype_cases,
};

kunit_test_suite(kvm_memtype_suite);
