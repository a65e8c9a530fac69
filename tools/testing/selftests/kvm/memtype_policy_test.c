// SPDX-License-Identifier: GPL-2.0-only
/*
 * What decides about a VM's memory types, and when: its policy, KVM_MEM_FORCE_WB of a memslot, and
 * on x86 that a device is there whose DMA does not snoop.
 *
 * memtype_test shows which types come of it.
 */
#include "memtype_walk.h"

/* The policy of a VM, and how it shows. */
FIXTURE(policy)
{
	struct kvm_vm *vm;
};

FIXTURE_SETUP(policy)
{
	self->vm = vm_create(1);
	if (have_layer())
		ASSERT_EQ(__vm_enable_cap(self->vm, KVM_CAP_MEMTYPE, KVM_MEMTYPE_POLICY_HONOR), 0);
}

FIXTURE_TEARDOWN(policy)
{
	kvm_vm_free(self->vm);
}

/* What the capability and the query say of guest RAM. */
static bool ram_is_honored(struct kvm_vm *vm, uint8_t *source)
{
	int caps = vm_check_cap(vm, KVM_CAP_MEMTYPE);
	struct kvm_memtype answer;

	TEST_ASSERT(caps & KVM_MEMTYPE_CAP_QUERY &&
		    !(caps & KVM_MEMTYPE_CAP_WC) ==
		    (has_shadow_paging() || (only_ram() && !(caps & KVM_MEMTYPE_CAP_HONOR))),
		    "caps %x", caps);
	TEST_ASSERT(!get_memtype(vm, 0, &answer), "query: %s", strerror(errno));
	TEST_ASSERT(!(caps & KVM_MEMTYPE_CAP_HONOR) ==
		    !!(answer.attributes & KVM_MEMTYPE_ATTR_FORCED),
		    "caps %x, attributes %x", caps, answer.attributes);
	*source = answer.source;
	return caps & KVM_MEMTYPE_CAP_HONOR;
}

/* That @legacy is a legacy VM, and @honor one that honors the guest. */
static void check_legacy(struct kvm_vm *legacy, struct kvm_vm *honor)
{
	uint8_t legacy_source, honor_source;
	bool honored = ram_is_honored(honor, &honor_source);
	bool legacy_honored = ram_is_honored(legacy, &legacy_source);

	TEST_ASSERT(honor_source == (honored ? KVM_MEMTYPE_SOURCE_RAM : KVM_MEMTYPE_SOURCE_CPU),
		    "source %d", honor_source);
	if (honored && legacy_may_force()) {
		TEST_ASSERT(!legacy_honored && legacy_source == KVM_MEMTYPE_SOURCE_POLICY,
			    "legacy has no effect, source %d", legacy_source);
		disable_quirk(legacy);
		TEST_ASSERT(ram_is_honored(legacy, &legacy_source),
			    "legacy ignores a disabled quirk, source %d", legacy_source);
	} else {
		TEST_ASSERT(legacy_honored == honored && legacy_source == honor_source,
			    "legacy has an effect, source %d", legacy_source);
	}
}

TEST_F(policy, enable_cap)
{
	struct kvm_vm *legacy;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	legacy = vm_create(1);
	EXPECT_EQ(kvm_check_cap(KVM_CAP_MEMTYPE), vm_check_cap(legacy, KVM_CAP_MEMTYPE));
	ASSERT_EQ(__vm_enable_cap(legacy, KVM_CAP_MEMTYPE, KVM_MEMTYPE_POLICY_LEGACY), 0);
	check_legacy(legacy, self->vm);

#ifdef __aarch64__
	/* The older name of one of the bits; under legacy, it is as the base has it. */
	EXPECT_EQ(vm_check_cap(self->vm, KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED),
		  !!(vm_check_cap(self->vm, KVM_CAP_MEMTYPE) & KVM_MEMTYPE_CAP_CACHEABLE_PFNMAP));
	EXPECT_EQ(vm_check_cap(legacy, KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED),
		  LEGACY_IS_DEVICE ? 0 :
		  vm_check_cap(self->vm, KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED));
	/* Where stage 1 decides, no FWB forces anything. */
	if (kvm_check_cap(KVM_CAP_MEMTYPE) & KVM_MEMTYPE_CAP_STAGE1) {
		struct kvm_vm *stage1 = vm_create(1);

		ASSERT_EQ(__vm_enable_cap(stage1, KVM_CAP_MEMTYPE, KVM_MEMTYPE_POLICY_STAGE1), 0);
		EXPECT_EQ(vm_check_cap(stage1, KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED), 0);
		kvm_vm_free(stage1);
	}
#endif

	/* And back again. */
	ASSERT_EQ(__vm_enable_cap(legacy, KVM_CAP_MEMTYPE, KVM_MEMTYPE_POLICY_HONOR), 0);
	EXPECT_EQ(vm_check_cap(legacy, KVM_CAP_MEMTYPE), vm_check_cap(self->vm, KVM_CAP_MEMTYPE));
	kvm_vm_free(legacy);
}

static int enable_error(struct kvm_vm *vm, struct kvm_enable_cap cap)
{
	cap.cap = KVM_CAP_MEMTYPE;
	return __vm_ioctl(vm, KVM_ENABLE_CAP, &cap) ? errno : 0;
}

TEST_F(policy, bad_input)
{
	uint8_t before, after;
	bool honored;

	if (!have_layer()) {
		EXPECT_EQ(vm_check_cap(self->vm, KVM_CAP_MEMTYPE), 0);
		EXPECT_EQ(enable_error(self->vm, (struct kvm_enable_cap) {
				.args = { KVM_MEMTYPE_POLICY_LEGACY } }), EINVAL);
		return;
	}
	honored = ram_is_honored(self->vm, &before);
	EXPECT_EQ(enable_error(self->vm, (struct kvm_enable_cap) {}), EINVAL);
	EXPECT_EQ(enable_error(self->vm, (struct kvm_enable_cap) { .args = { 8 } }), EINVAL);
	EXPECT_EQ(enable_error(self->vm, (struct kvm_enable_cap) { .args = { 3 } }), EINVAL);
	EXPECT_EQ(enable_error(self->vm, (struct kvm_enable_cap) {
			.args = { KVM_MEMTYPE_POLICY_LEGACY | 1ull << 63 } }), EINVAL);
	EXPECT_EQ(enable_error(self->vm, (struct kvm_enable_cap) {
			.args = { KVM_MEMTYPE_POLICY_LEGACY, 1 } }), EINVAL);
	EXPECT_EQ(enable_error(self->vm, (struct kvm_enable_cap) {
			.args = { KVM_MEMTYPE_POLICY_LEGACY }, .flags = 1 }), EINVAL);
	EXPECT_EQ(enable_error(self->vm, (struct kvm_enable_cap) {
			.args = { KVM_MEMTYPE_POLICY_LEGACY }, .pad = { [63] = 1 } }), EINVAL);
	EXPECT_EQ(ram_is_honored(self->vm, &after), honored);
	EXPECT_EQ(after, before);
}

TEST_F(policy, too_late)
{
	int caps;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	caps = vm_check_cap(self->vm, KVM_CAP_MEMTYPE);
	vm_vcpu_add(self->vm, 0, guest_main);
	EXPECT_EQ(__vm_enable_cap(self->vm, KVM_CAP_MEMTYPE, KVM_MEMTYPE_POLICY_LEGACY), -1);
	EXPECT_EQ(errno, EBUSY);
	EXPECT_EQ(vm_check_cap(self->vm, KVM_CAP_MEMTYPE), caps);
}

/* kvm.guest_memtype= is for VMs that are created later. */
TEST_F(policy, module_parameter)
{
	struct kvm_vm *legacy, *honor;
	bool was_legacy;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	was_legacy = file_starts_with(PARAMETER, "legacy\n");
	ASSERT_EQ(write_file(PARAMETER, "legacy"), 0);
	EXPECT_TRUE(file_starts_with(PARAMETER, "legacy\n"));
	EXPECT_EQ(write_file(PARAMETER, "no"), -EINVAL);
	legacy = vm_create(1);
	EXPECT_EQ(write_file(PARAMETER, "honor"), 0);
	EXPECT_TRUE(file_starts_with(PARAMETER, "honor\n"));
	honor = vm_create(1);
	if (was_legacy)
		EXPECT_EQ(write_file(PARAMETER, "legacy"), 0);
	check_legacy(legacy, honor);
	kvm_vm_free(honor);
	kvm_vm_free(legacy);
}

/* KVM_MEM_FORCE_WB, beside what the rows show. */
FIXTURE(slot)
{
	struct kvm_vm *vm;
	void *hva;
};

FIXTURE_SETUP(slot)
{
	if (!have_layer())
		SKIP(return, NO_LAYER);
	self->vm = vm_create(1);
	self->hva = mmap(NULL, SZ_2M, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(self->hva, MAP_FAILED);
}

FIXTURE_TEARDOWN(slot)
{
	if (self->vm)
		kvm_vm_free(self->vm);
}

static int set_slot(struct kvm_vm *vm, int slot, uint32_t flags, uint64_t gpa, void *hva)
{
	return __vm_set_user_memory_region(vm, slot, flags, gpa, SZ_2M, hva) ? errno : 0;
}

/* Both ioctls take it where the capability says so; it can be set only at first. */
TEST_F(slot, force_wb_is_immutable)
{
	bool can = vm_check_cap(self->vm, KVM_CAP_MEMTYPE) & KVM_MEMTYPE_CAP_FORCE_WB;
	int ret;

	EXPECT_EQ(set_slot(self->vm, TEST_SLOT, KVM_MEM_FORCE_WB, TEST_GPA, self->hva),
		  can ? 0 : EINVAL);
	ret = __vm_set_user_memory_region2(self->vm, TEST_SLOT + 1, KVM_MEM_FORCE_WB,
					   TEST_GPA + SZ_2M, SZ_2M, self->hva, 0, 0);
	EXPECT_EQ(ret ? errno : 0, can ? 0 : EINVAL);
	EXPECT_EQ(set_slot(self->vm, TEST_SLOT + 2, 0, TEST_GPA + SZ_4M, self->hva), 0);
	EXPECT_EQ(set_slot(self->vm, TEST_SLOT + 2, KVM_MEM_FORCE_WB, TEST_GPA + SZ_4M,
			   self->hva), EINVAL);
	if (!can)
		return;
	EXPECT_EQ(set_slot(self->vm, TEST_SLOT, 0, TEST_GPA, self->hva), EINVAL);
	EXPECT_EQ(set_slot(self->vm, TEST_SLOT, KVM_MEM_FORCE_WB | KVM_MEM_LOG_DIRTY_PAGES,
			   TEST_GPA, self->hva), 0);
}

/* Other memslots of the VM stay as they are. */
TEST_F(slot, force_wb_is_of_one_slot)
{
	struct kvm_memtype forced, other;

	if (why_not(0, KVM_MEM_FORCE_WB))
		SKIP(return, "%s", why_not(0, KVM_MEM_FORCE_WB));
	ASSERT_EQ(set_slot(self->vm, TEST_SLOT, KVM_MEM_FORCE_WB, TEST_GPA, self->hva), 0);
	ASSERT_EQ(set_slot(self->vm, TEST_SLOT + 1, 0, TEST_GPA + SZ_2M, self->hva), 0);
	ASSERT_EQ(get_memtype(self->vm, TEST_GPA, &forced), 0);
	ASSERT_EQ(get_memtype(self->vm, TEST_GPA + SZ_2M, &other), 0);
	EXPECT_TRUE(forced.attributes & KVM_MEMTYPE_ATTR_FORCED);
	if (vm_check_cap(self->vm, KVM_CAP_MEMTYPE) & KVM_MEMTYPE_CAP_HONOR) {
		EXPECT_EQ(forced.source, KVM_MEMTYPE_SOURCE_SLOT);
		EXPECT_FALSE(other.attributes & KVM_MEMTYPE_ATTR_FORCED);
	}
}

#ifdef __x86_64__
/*
 * The first device whose DMA does not snoop, and the last: everything is mapped
 * anew if that changes an encoding, and nothing if not.
 */
FIXTURE(dma)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
};

FIXTURE_VARIANT(dma)
{
	uint64_t policy;
	uint32_t slot_flags;
};

FIXTURE_VARIANT_ADD(dma, honor) {
	.policy = KVM_MEMTYPE_POLICY_HONOR,
};

FIXTURE_VARIANT_ADD(dma, legacy) {
	.policy = KVM_MEMTYPE_POLICY_LEGACY,
};

FIXTURE_VARIANT_ADD(dma, slot) {
	.policy = KVM_MEMTYPE_POLICY_HONOR, .slot_flags = KVM_MEM_FORCE_WB,
};

#define DMA_PAGES	4

FIXTURE_SETUP(dma)
{
	int i;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	if (why_not(0, variant->slot_flags))
		SKIP(return, "%s", why_not(0, variant->slot_flags));
	self->vm = create_vm(&self->vcpu, 1, variant->policy);
	if (!have_probe(self->vcpu))
		SKIP(return, NO_PROBE);
	vm_userspace_mem_region_add(self->vm, VM_MEM_SRC_ANONYMOUS, TEST_GPA, TEST_SLOT,
				    DMA_PAGES, variant->slot_flags);
	for (i = 0; i < DMA_PAGES; i++)
		map_as(self->vm, TEST_GVA + i * SZ_4K, TEST_GPA + i * SZ_4K, KVM_MEMTYPE_WB);
}

FIXTURE_TEARDOWN(dma)
{
	if (self->vm)
		kvm_vm_free(self->vm);
}

/* Has the guest write to all pages; returns how many of its faults KVM resolved. */
static uint64_t touch_all(struct kvm_vcpu *vcpu, uint64_t *leaf)
{
	struct kvm_memtype_probe probe = { .gpa = TEST_GPA, .gva = TEST_GVA };
	uint64_t before = vm_statistic(vcpu->vm, "pf_fixed");
	int i;

	for (i = 0; i < DMA_PAGES; i++)
		let_guest(vcpu, GUEST_WRITE, TEST_GVA + i * SZ_4K, PATTERN);
	vcpu_ioctl(vcpu, KVM_MEMTYPE_PROBE, &probe);
	*leaf = EPT_MT(probe.leaf) | EPT_IPAT(probe.leaf) << 3;
	if (probe.format != KVM_MEMTYPE_PROBE_EPT)
		*leaf = 0;
	return vm_statistic(vcpu->vm, "pf_fixed") - before;
}

TEST_F(dma, zaps_are_exact)
{
	static const bool devices[] = { true, true, false, false };
	uint64_t leaf, before, faults;
	int i;

	EXPECT_GE(touch_all(self->vcpu, &before), DMA_PAGES);
	EXPECT_EQ(touch_all(self->vcpu, &before), 0);
	for (i = 0; i < ARRAY_SIZE(devices); i++) {
		trace_event("kvm_memtype/kvm_memtype_policy", true);
		set_noncoherent_dma(self->vcpu, devices[i]);
		trace_event("kvm_memtype/kvm_memtype_policy", false);

		faults = touch_all(self->vcpu, &leaf);
		if (leaf != before)
			EXPECT_GE(faults, DMA_PAGES);
		if (leaf == before)
			EXPECT_EQ(faults, 0);
		/* The second device, and the last but one, are no event at all. */
		EXPECT_EQ(trace_has("kvm_memtype_policy:", leaf != before ? "zap 1" : "zap 0"),
			  i == 0 || i == 3);
		before = leaf;
	}
}

/* A second encoder of EPT, which nobody calls, would hide what upstream changes of it. */
TEST(one_place_decides)
{
	bool layer = false, twin = false;
	char line[512];
	FILE *symbols;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	symbols = fopen("/proc/kallsyms", "r");
	ASSERT_NE(symbols, NULL);
	while (fgets(line, sizeof(line), symbols)) {
		layer |= !!strstr(line, " kvm_memtype_spte_of_page\n");
		twin |= strstr(line, " vmx_get_mt_mask\n") ||
			strstr(line, " kvm_mmu_may_ignore_guest_pat\n");
	}
	fclose(symbols);
	ASSERT_TRUE(layer);
	EXPECT_FALSE(twin);
}
#endif

#ifdef __aarch64__
/* pKVM's hypervisor decides about the memory of a guest that it protects. */
TEST(protected_vm_has_no_policy)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_MEMTYPE, .args[0] = KVM_MEMTYPE_POLICY_HONOR,
	};
	struct kvm_memtype query = {};
	char path[64];
	int vm, length;

	if (!have_layer())
		SKIP(return, NO_LAYER);
	vm = create_protected_vm();
	if (vm < 0)
		SKIP(return, "KVM cannot protect a VM");
	EXPECT_EQ(ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_MEMTYPE), 0);
	EXPECT_EQ(ioctl(vm, KVM_ENABLE_CAP, &cap), -1);
	EXPECT_EQ(errno, EINVAL);
	/* Without a memslot, it would be ENOENT. */
	EXPECT_EQ(ioctl(vm, KVM_GET_MEMTYPE, &query), -1);
	EXPECT_EQ(errno, EINVAL);
	length = snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d", getpid(), vm);
	EXPECT_EQ(access(path, F_OK), 0);
	snprintf(path + length, sizeof(path) - length, "/memtype");
	EXPECT_EQ(access(path, F_OK), -1);
	EXPECT_EQ(errno, ENOENT);
	close(vm);
}
#endif

TEST_HARNESS_MAIN
