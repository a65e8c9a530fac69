// SPDX-License-Identifier: GPL-2.0-only
/*
 * arm64: guests and a device that does not snoop, on a machine whose caches are a model
 * (tools/testing/memtype/cache/).
 *
 *	guest.normal_nc	what a guest stores through Normal-NC passes the caches if the guest's own
 *			type counts, and stays in them where FWB overrides it; the model goes by
 *			what the CPU says of the page (KVM_MEMTYPE_PROBE: AT S12E1R)
 *	guest.driver	a guest that drives the device itself maintains caches, or forgets to
 */
#include "kvm_test_harness.h"
#include "../memtype/no_timeout.h"
#include "memtype_order.h"
#include "memtype_vfio.h"
#include "../iommu/dma_cache_engine.h"

/* Without the maintenance that guest_write() has. */
static void guest_stores(void)
{
	uint64_t *to = (uint64_t *)TEST_GVA;

	WRITE_ONCE(*to, 1);
	GUEST_SYNC(0);
	WRITE_ONCE(*to, PATTERN);
	GUEST_SYNC(0);
	clean_invalidate(TEST_GVA);
	GUEST_SYNC(0);
}

/* Has the CPU tell the model which type the guest's page has. */
static bool tell_type(struct kvm_vcpu *vcpu)
{
	struct kvm_memtype_probe probe = { .gpa = TEST_GPA, .gva = TEST_GVA };

	vcpu_ioctl(vcpu, KVM_MEMTYPE_PROBE, &probe);
	return probe.par_valid;
}

static void say(const char *what, const char *how, const char *value)
{
	ksft_print_msg("memtype-cell: row=%s, %s effective=%s forced=no\n", what, how, value);
}

FIXTURE(guest)
{
	struct rig rig;
};

FIXTURE_SETUP(guest)
{
	ASSERT_EQ(0, engine_open(&self->rig, IOMMUFD));
}

FIXTURE_TEARDOWN(guest)
{
	engine_close(&self->rig);
}

TEST_F(guest, normal_nc)
{
	static const struct {
		uint64_t policy;
		const char *name;
	} modes[] = {
		{ KVM_MEMTYPE_POLICY_STAGE1, "stage-1 mode" },
		{ KVM_MEMTYPE_POLICY_HONOR, "FWB" },
	};
	uint64_t *page, read, i;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	ASSERT_TRUE(have_stage1());
	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		page = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(page, MAP_FAILED);
		vm = create_vm(&vcpu, 1, modes[i].policy);
		vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_GPA, SZ_4K, page);
		map_as(vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WC);
		MUST_WORK(engine_map(&self->rig, TEST_GPA, page, SZ_4K));

		/* Now the page is mapped in stage 2, and the CPU can say how. */
		vcpu_arch_set_entry_point(vcpu, guest_stores);
		run_to_sync(vcpu);
		ASSERT_TRUE(tell_type(vcpu));
		run_to_sync(vcpu);
		MUST_WORK(engine_read(&self->rig, TEST_GPA, &read, sizeof(read)));
		EXPECT_EQ(PATTERN, page[0]);
		say("a guest's Normal-NC store", modes[i].name,
		    read == PATTERN ? "new" : "old");

		run_to_sync(vcpu);
		MUST_WORK(engine_read(&self->rig, TEST_GPA, &read, sizeof(read)));
		say("the same after DC CIVAC", modes[i].name,
		    read == PATTERN ? "new" : "old");
		/* Whoever has the page next uses the caches. */
		map_as(vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WB);
		ASSERT_TRUE(tell_type(vcpu));
		MUST_WORK(engine_unmap(&self->rig, TEST_GPA, SZ_4K));
		kvm_vm_free(vm);
		munmap(page, SZ_4K);
	}
}

#define BAR_GPA		(TEST_GPA + SZ_2M)
#define BAR_GVA		(TEST_GVA + SZ_2M)

static void guest_transfer(uint64_t from, uint64_t to, uint64_t command)
{
	uint64_t *bar = (uint64_t *)BAR_GVA;

	WRITE_ONCE(bar[ENGINE_SOURCE / 8], from);
	WRITE_ONCE(bar[ENGINE_TARGET / 8], to);
	WRITE_ONCE(bar[ENGINE_COUNT / 8], sizeof(*bar));
	WRITE_ONCE(bar[ENGINE_COMMAND / 8], command);
	/* It is done when the device has taken the command. */
	READ_ONCE(bar[ENGINE_COMMAND / 8]);
}

/* What a guest's driver does around a transfer */
static const struct {
	const char *row;
	bool cleans, invalidates;
} drivers[] = {
	{ "without maintenance", false, false },
	{ "without the clean", false, true },
	{ "without the invalidate", true, false },
	{ "with maintenance", true, true },
};

/* Each has the device copy a word from one line to another. */
static void guest_drives(void)
{
	uint64_t *from = (uint64_t *)TEST_GVA, *to = (uint64_t *)(TEST_GVA + LINE);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(drivers); i++) {
		WRITE_ONCE(*from, PATTERN + i);
		if (drivers[i].cleans)
			clean_invalidate((uint64_t)from);
		guest_transfer(TEST_GPA, ENGINE_BUFFER, ENGINE_RUN);
		guest_transfer(ENGINE_BUFFER, TEST_GPA + LINE, ENGINE_RUN | ENGINE_TO_MEMORY);
		if (drivers[i].invalidates)
			clean_invalidate((uint64_t)to);
		GUEST_SYNC(READ_ONCE(*to));
		/* The next one begins with clean lines. */
		clean_invalidate((uint64_t)from);
		clean_invalidate((uint64_t)to);
	}
}

TEST_F(guest, driver)
{
	uint64_t *page = mmap(NULL, SZ_4K, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			      -1, 0);
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	unsigned int i;

	ASSERT_NE(page, MAP_FAILED);
	vm = create_vm(&vcpu, 1, 0);
	vm_set_user_memory_region(vm, TEST_SLOT, 0, TEST_GPA, SZ_4K, page);
	map_as(vm, TEST_GVA, TEST_GPA, KVM_MEMTYPE_WB);
	vm_set_user_memory_region(vm, TEST_SLOT + 1, 0, BAR_GPA, SZ_4K, self->rig.bar);
	map_as(vm, BAR_GVA, BAR_GPA, KVM_MEMTYPE_UC);
	MUST_WORK(engine_map(&self->rig, TEST_GPA, page, SZ_4K));
	vcpu_arch_set_entry_point(vcpu, guest_drives);
	for (i = 0; i < ARRAY_SIZE(drivers); i++)
		say("a guest's driver", drivers[i].row,
		    run_to_sync(vcpu) == PATTERN + i ? "right" : "stale");
	MUST_WORK(engine_unmap(&self->rig, TEST_GPA, SZ_4K));
	kvm_vm_free(vm);
	munmap(page, SZ_4K);
}

TEST_HARNESS_MAIN
